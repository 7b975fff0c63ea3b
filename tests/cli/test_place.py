"""Directories as they are given on a command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cli.place import place
from headrace.errors import UsageError


@pytest.mark.parametrize(("directory", "words"), [("", "empty"), ("/x/\udcff", "not UTF-8")])
def test_what_names_no_directory_is_refused(directory: str, words: str) -> None:
    with pytest.raises(UsageError, match=rf"^directory: .*{words}"):
        place(directory)


def test_a_working_directory_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended with a traceback."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="the working directory is gone"):
        place("x")
    assert place(str(tmp_path)) == str(tmp_path)
