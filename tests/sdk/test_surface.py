"""The public names, all of them, each with a docstring; and what importing the package costs."""

from __future__ import annotations

import inspect
import subprocess
import sys

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


def test_importing_the_package_loads_no_engine() -> None:
    code = "import sys, headrace.errors; sys.exit(any(n.startswith(('headrace._engine', 'headrace.sdk')) for n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
