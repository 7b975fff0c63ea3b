"""What is kept on the machine: made for its owner only, never changed where it was there before, never lost."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.control import settings
from headrace.control.ownership import own_directory, own_file
from headrace.control.vault.master import open_master
from headrace.errors import UsageError
from headrace.testing.control import control_plane


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _settings(tmp_path: Path, key: Path) -> settings.ControlSettings:
    return settings.load({"control_state": str(tmp_path), "control_master_key_file": str(key)}, {})


@pytest.mark.parametrize("name", ["new.part", "master", ".part", "master.key"])
def test_a_master_key_is_there_whatever_its_name(tmp_path: Path, name: str) -> None:
    chosen = _settings(tmp_path, tmp_path / "keys" / name)
    made = open_master(chosen)
    assert open_master(chosen).name == made.name
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [name]
    assert _mode(tmp_path / "keys" / name) == 0o600


def test_of_many_starts_all_have_the_key_that_is_kept(tmp_path: Path) -> None:
    for number in range(20):
        chosen = _settings(tmp_path, tmp_path / f"k{number}")
        ready = threading.Barrier(8)

        def start(chosen: settings.ControlSettings = chosen, ready: threading.Barrier = ready) -> str:
            ready.wait()
            return open_master(chosen).name

        with ThreadPoolExecutor(8) as pool:
            names = {one.result() for one in [pool.submit(start) for _ in range(8)]}
        assert names == {open_master(chosen).name}


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620])
def test_a_master_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    chosen = _settings(tmp_path, tmp_path / "k")
    open_master(chosen)
    (tmp_path / "k").chmod(mode)
    with pytest.raises(UsageError, match="chmod 600"):
        open_master(chosen)


def test_a_master_key_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be"):
        open_master(replace(_settings(tmp_path, tmp_path / "file" / "k")))


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    for mode in (0o755, 0o700, 0o750):
        tmp_path.chmod(mode)
        own_directory("control state", tmp_path)
        assert _mode(tmp_path) == mode
    tmp_path.chmod(0o777)
    with pytest.raises(UsageError, match="chmod go-w"):
        own_directory("control state", tmp_path)
    tmp_path.chmod(0o700)
    own_directory("control state", tmp_path / "a" / "b")
    assert _mode(tmp_path / "a" / "b") == 0o700


def test_what_is_no_directory_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, message in ((tmp_path / "file", "not a directory"), (tmp_path / "file" / "x", "can't be")):
        with pytest.raises(UsageError, match=message):
            own_directory("control state", path)
    if os.geteuid() == 0:
        (tmp_path / "theirs").mkdir()
        os.chown(tmp_path / "theirs", 12345, -1)
        with pytest.raises(UsageError, match="another user"):
            own_directory("control state", tmp_path / "theirs")


def test_the_database_is_its_owners_wherever_it_is(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with control_plane(tmp_path / "state", f"sqlite:///{tmp_path}/elsewhere.db"):
            assert {_mode(path) for path in tmp_path.glob("elsewhere.db*")} == {0o600}
    finally:
        os.umask(before)
    (tmp_path / "elsewhere.db").chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        own_file("control database", tmp_path / "elsewhere.db")
