"""What a successor serves of a mount's slots, and what a switch tells the keeper; with an engine that opens whatever is not damaged."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from headrace._engine import EngineError
from headrace.errors import HeadraceError
from headrace.node import slots

MAGIC = 0x4845_4144_5241_4345


class FakeEngine:
    """Opens lists as the engine does: all of them, before anything else."""

    def __init__(self) -> None:
        self.resumed: dict[int, str] | None = None
        self.reserved = 3
        self.refuses = False

    @staticmethod
    def snapshot_info(path: str) -> dict[str, Any]:
        if not os.path.exists(path) or "damaged" in Path(path).read_text():
            error = EngineError("snapshot-corrupt", path)
            error.code, error.message = "snapshot-corrupt", f"snapshot {path}: damaged"
            raise error
        return {}

    def mount_resume(self, _mount: str, _origin: str, lists: dict[int, str], current: int, **_look: Any) -> None:
        for path in lists.values():
            self.snapshot_info(path)
        assert current in lists
        self.resumed = lists

    def mount_reserve_slot(self, _mount: str) -> int:
        self.reserved += 1
        return self.reserved

    def mount_switch(self, _mount: str, _slot: int, path: str) -> None:
        if self.refuses:
            Path(path).write_text("damaged")
        self.snapshot_info(path)


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    monkeypatch.setattr(slots, "Engine", FakeEngine)
    return FakeEngine()


@pytest.fixture
def state() -> Iterator[int]:
    """A ledger that shows slot 2."""
    descriptor = os.memfd_create("ledger")
    os.pwrite(descriptor, struct.pack("=6Q", MAGIC, 2, 0, 0, 4, 2), 0)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def mount(tmp_path: Path) -> dict[str, Any]:
    """Slots 1 and 2 were shown; of 3 its node told and died."""
    paths = {str(slot): tmp_path / f"v{slot}.snap" for slot in (1, 2, 3)}
    for slot, path in paths.items():
        path.write_text(f"list {slot}")
    told = {slot: {"is": slots.identity(str(path)), "version": f"v{slot}"} for slot, path in paths.items()}
    return {"slots": {slot: str(path) for slot, path in paths.items()}, "lists": told, "snapshot": "v3", "directory": "/m", "look": {}}


def resume(engine: FakeEngine, mount: dict[str, Any], state: int) -> dict[str, Any]:
    return slots.resume(cast(Any, engine), "m", mount, 0, state)


def served(engine: FakeEngine) -> list[int]:
    return sorted(engine.resumed or {})


def test_what_is_shown_is_what_the_ledger_says(engine: FakeEngine, mount: dict[str, Any], state: int) -> None:
    assert resume(engine, mount, state) == {"snapshot": "v2"}
    assert served(engine) == [1, 2, 3]


def test_a_task_knows_what_its_mount_shows(engine: FakeEngine, mount: dict[str, Any], state: int) -> None:
    """Else it would not follow to the version that was told and never shown."""
    mount["task"] = {"id": "t", "version": 3}
    assert resume(engine, mount, state)["task"] == {"id": "t", "version": 2}


@pytest.mark.parametrize("content", ["damaged", "another", None])
@pytest.mark.parametrize("slot", ["1", "3"])
def test_a_slot_that_is_not_shown_is_left_out(engine: FakeEngine, mount: dict[str, Any], state: int, slot: str, content: str | None) -> None:
    path = Path(mount["slots"][slot])
    path.write_text(content) if content else path.unlink()
    change = resume(engine, mount, state)
    left = sorted({"1", "2", "3"} - {slot})
    assert served(engine) == [int(one) for one in left]
    assert [sorted(change[name]) for name in ("slots", "lists")] == [left, left]
    assert str(path) in change["lost"][0]


@pytest.mark.parametrize("content", ["damaged", "another", None])
def test_nothing_is_served_without_the_one_that_is_shown(engine: FakeEngine, mount: dict[str, Any], state: int, content: str | None) -> None:
    path = Path(mount["slots"]["2"])
    path.write_text(content) if content else path.unlink()
    with pytest.raises((HeadraceError, EngineError), match=path.name):
        resume(engine, mount, state)
    assert engine.resumed is None


def test_a_node_of_an_earlier_version_told_paths_alone(engine: FakeEngine, mount: dict[str, Any], state: int) -> None:
    del mount["lists"]
    Path(mount["slots"]["1"]).write_text("another, which nobody can know")
    assert resume(engine, mount, state) == {}
    assert served(engine) == [1, 2, 3]
    Path(mount["slots"]["1"]).write_text("damaged")
    assert sorted(resume(engine, mount, state)["slots"]) == ["2", "3"]


def test_no_slot_is_left_out_where_nobody_knows_which_is_shown(engine: FakeEngine, mount: dict[str, Any], state: int) -> None:
    os.pwrite(state, struct.pack("=6Q", MAGIC, 3, 0, 0, 4, 2), 0)
    Path(mount["slots"]["1"]).unlink()
    with pytest.raises((HeadraceError, EngineError), match=r"v1\.snap"):
        resume(engine, mount, state)
    assert engine.resumed is None


class FakeNode:
    """What is told to the keeper."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.commands = engine, threading.Lock()
        self.told: list[dict[str, Any]] = []

    def update_mount(self, _mount: str, change: dict[str, Any]) -> None:
        self.told.append(change)


@pytest.mark.parametrize("when", ["before", "in the midst"])
def test_a_switch_that_fails_is_taken_back(engine: FakeEngine, mount: dict[str, Any], tmp_path: Path, when: str) -> None:
    node, wanted = FakeNode(engine), tmp_path / "v4.snap"
    wanted.write_text("damaged" if when == "before" else "list 4")
    engine.refuses = True
    kept = dict(mount)
    with pytest.raises(EngineError):
        slots.switch(cast(Any, node), "m", mount, "v4", str(wanted))
    for change in node.told:
        mount.update(change)
    assert mount == kept
    assert len(node.told) == (0 if when == "before" else 2)


def test_a_list_that_was_shown_needs_no_other_slot(engine: FakeEngine, mount: dict[str, Any]) -> None:
    node = FakeNode(engine)
    slots.switch(cast(Any, node), "m", mount, "v1", mount["slots"]["1"])
    assert (node.told[0]["snapshot"], node.told[0]["slots"], engine.reserved) == ("v1", mount["slots"], 3)
    # By the same name, another one.
    Path(mount["slots"]["1"]).write_text("another")
    slots.switch(cast(Any, node), "m", mount, "v1", mount["slots"]["1"])
    assert sorted(node.told[1]["slots"]) == ["1", "2", "3", "4"]
    assert engine.reserved == 4
