"""Directories that a mount makes, and takes away again."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cli import mount_point
from headrace.errors import MountFailure


def test_what_was_made_goes_and_what_was_there_stays(tmp_path: Path) -> None:
    made = mount_point.make(tmp_path / "a/b/c")
    assert made == [tmp_path / "a/b/c", tmp_path / "a/b", tmp_path / "a"]
    mount_point.take_away(made)
    assert list(tmp_path.iterdir()) == []


def test_what_others_use_by_now_stays(tmp_path: Path) -> None:
    made = mount_point.make(tmp_path / "a/b/c")
    (tmp_path / "a/b/theirs").write_text("x")
    mount_point.take_away(made)
    assert [p.name for p in (tmp_path / "a/b").iterdir()] == ["theirs"]


def test_half_a_way_is_taken_back(tmp_path: Path) -> None:
    with pytest.raises(MountFailure, match=r"can't be made.*; give"):
        mount_point.make(tmp_path / "a" / ("x" * 300))
    assert list(tmp_path.iterdir()) == []
