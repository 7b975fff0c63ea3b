"""The public names, all of them, each with a docstring; and what importing the package costs."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import headrace


def test_the_public_names() -> None:
    assert headrace.__all__ == [
        "CacheFailure",
        "CredentialFailure",
        "Entry",
        "File",
        "HeadraceError",
        "NodeFailure",
        "NotFound",
        "OriginFailure",
        "PathNotFound",
        "ReadFailure",
        "Replaced",
        "UsageError",
        "Volume",
        "WarmProgress",
        "__version__",
        "open",
    ]
    assert set(headrace.__all__) <= set(dir(headrace))


def test_every_public_name_is_described() -> None:
    for name in headrace.__all__:
        value = getattr(headrace, name)
        if name == "__version__":
            continue
        assert inspect.getdoc(value), name
        if name in ("Volume", "File", "Entry"):
            bare = [n for n, m in vars(value).items() if not n.startswith("_") and callable(m) and not inspect.getdoc(getattr(value, n))]
            assert bare == [], name


@pytest.mark.parametrize("source", ["http://q", "q", "/models/q", "s3://models", "s3://models/", "s3:///q", ""])
def test_what_is_no_object_is_shown_as_it_was_given(source: str) -> None:
    """Of http://q the message said that 'http:/' is wrong."""
    with pytest.raises(headrace.UsageError, match="s3://BUCKET/KEY") as failure:
        headrace.open(source)
    assert repr(source) in str(failure.value)


def test_importing_the_package_loads_no_engine() -> None:
    code = "import sys, headrace.errors; sys.exit(any(n.startswith(('headrace._engine', 'headrace.sdk')) for n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
