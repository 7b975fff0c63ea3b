"""What lies in a cache directory is closed to others, whatever the umask and the modes found there."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from headrace.node.order_store import OrderStore
from headrace.node.orders import Order
from headrace.node.private import touch_private
from headrace.node.scrubber import Scrubber
from headrace.node.upkeep import close_lists
from headrace.node.volumes import VolumeStore
from headrace.settings import Settings

REPORT = {"files": 1, "bytes": 1, "skipped": 0, "versioned": False}


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["umask 000", "umask 022", "umask 077"], autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache directory that was there before, open to readers."""
    directory = tmp_path / "cache"
    directory.mkdir()
    directory.chmod(0o755)
    return directory


def modes(top: Path) -> dict[str, str]:
    return {str(path.relative_to(top)): oct(path.stat().st_mode & 0o777) for path in top.rglob("*")}


def assert_closed(cache: Path) -> None:
    for path in cache.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, modes(cache)


def test_lists_of_files(cache: Path) -> None:
    store = VolumeStore(cache / "snapshots", "http://e", "b", "m/")
    candidate = store.candidate()
    os.close(os.open(candidate, os.O_CREAT | os.O_WRONLY, 0o600))  # as the engine does
    store.publish(candidate, REPORT)
    assert_closed(cache)
    assert cache.stat().st_mode & 0o777 == 0o755, "that one belongs to whoever made it"


def test_lists_of_files_in_a_directory_that_was_open(cache: Path) -> None:
    store = VolumeStore(cache / "snapshots", "http://e", "b", "m/")
    store.directory.mkdir(parents=True)
    for directory in (store.directory, store.directory.parent):
        directory.chmod(0o777)
    store.candidate()
    assert_closed(cache)


def test_what_an_earlier_node_left_open_is_closed_at_the_start(cache: Path) -> None:
    close_lists(cache / "snapshots")
    store = VolumeStore(cache / "snapshots", "http://e", "b", "m/")
    store.directory.mkdir(parents=True)
    for directory in (store.directory, store.directory.parent):
        directory.chmod(0o755)
    close_lists(cache / "snapshots")
    assert_closed(cache)


def test_learned_orders(cache: Path) -> None:
    OrderStore(cache / "snapshots", "http://e", "b").put("m", Order([("a", 1)], [(0, 0, 1)]))
    assert_closed(cache)


def test_the_mark_of_the_last_scrub(cache: Path) -> None:
    class Here:
        cache_directories = ((str(cache), 1),)
        scrub_interval = 10.0
        scrub_rate = 1.0

    scrubber = Scrubber(cast(Any, None), cast(Settings, Here()), threading.Event())
    assert scrubber._until_due() > 9
    assert (cache / "scrubbed").stat().st_mode & 0o777 == 0o600
    (cache / "scrubbed").chmod(0o666)
    os.utime(cache / "scrubbed", (0, 0))
    touch_private(cache / "scrubbed")
    assert (cache / "scrubbed").stat().st_mode & 0o777 == 0o600
    assert scrubber._until_due() > 9
