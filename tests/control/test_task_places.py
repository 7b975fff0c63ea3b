"""Mount points that several tasks make at once: what one takes away again, no other has entered."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from headrace.cli import task_places
from headrace.cli.task_places import Places
from headrace.errors import MountFailure


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_what_another_may_yet_remove_is_waited_for(tmp_path: Path, beside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = threading.Event()
    monkeypatch.setattr(task_places.time, "sleep", lambda seconds: (waits.set(), threading.Event().wait(seconds)))
    deep = tmp_path / "deep/a"
    with Places([str(tmp_path / "deep/b")]) as other:
        with Places([str(deep), str(tmp_path / "deep/b")]) as first:
            first.make()
            made = beside.submit(other.make)
            assert waits.wait(10)
            assert not made.done()
        made.result(10)
        assert os.listdir(tmp_path / "deep") == ["b"]
    assert os.listdir(tmp_path) == []


def test_what_another_has_entered_stays(tmp_path: Path) -> None:
    with Places([str(tmp_path / "a")]) as first:
        first.make()
        (tmp_path / "b").mkdir()
        with Places([str(tmp_path / "b")]) as other:
            other.make()
        assert os.listdir(tmp_path / "b") == []
    assert os.listdir(tmp_path) == ["b"]


def test_a_lock_that_stays_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_places, "_MAKER_SECONDS", 0.1)
    stranger = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(stranger, fcntl.LOCK_EX)
    with Places([str(tmp_path / "a/b"), str(tmp_path / "a/c")]) as places:
        places.make()
        assert sorted(os.listdir(tmp_path / "a")) == ["b", "c"]
    assert os.listdir(tmp_path) == []
    os.close(stranger)


def test_many_make_and_take_away_at_once(tmp_path: Path, beside: ThreadPoolExecutor) -> None:
    """Whoever has made its places finds them until it takes them away itself."""

    def again(number: int) -> None:
        for _ in range(100):
            paths = [tmp_path / "deep/same", tmp_path / f"deep/{number}/own"]
            with Places([str(path) for path in paths]) as places:
                places.make()
                assert all(path.is_dir() for path in paths)

    for one in [beside.submit(again, number) for number in range(4)]:
        one.result(60)
    # Of several that have entered a directory none removes it: one of them may be a command by now.
    assert not list(tmp_path.rglob("own"))


def test_a_directory_that_is_always_taken_away_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.mkdir

    def taken_away(name: str, mode: int, *, dir_fd: int) -> None:
        with suppress(FileExistsError):
            real(name, mode, dir_fd=dir_fd)
        os.rmdir(name, dir_fd=dir_fd)
        raise FileExistsError

    monkeypatch.setattr(os, "mkdir", taken_away)
    with pytest.raises(MountFailure, match="made and removed"), Places([str(tmp_path / "a")]) as places:
        places.make()
