"""Orders between the engine and the disk, with an engine that only remembers what it was told."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headrace import settings as configuration
from headrace.errors import CacheFailure
from headrace.node.learning import Learning
from headrace.node.orders import Order
from headrace.node.service import Node
from support.headrace import wait_until

FULL = Order([("a", 100), ("b", 50)], [(0, 0, 10), (1, 0, 50), (0, 10, 100)])
HALF = Order([("b", 50)], [(0, 0, 50)])
ENTRY = {"origin": {"endpoint": "http://e"}, "bucket": "b", "prefix": "m/"}


class Told:
    """Stands for the engine."""

    def __init__(self) -> None:
        self.grown: list[tuple[str, Order]] = []
        self.followed: list[tuple[str, str, Order, bool]] = []
        self.forgotten: list[tuple[str, str]] = []

    def orders(self, _origin_id: str) -> list[tuple[str, Any, Any]]:
        grown, self.grown = self.grown, []
        return [(directory, order.files, order.steps) for directory, order in grown]

    def follow(self, origin_id: str, directory: str, files: Any, steps: Any, replace: bool) -> None:
        self.followed.append((origin_id, directory, Order(files, steps), replace))

    def forget_orders(self, origin_id: str, directory: str) -> None:
        self.forgotten.append((origin_id, directory))


@pytest.fixture
def engine() -> Any:
    return Told()


@pytest.fixture
def learning(tmp_path: Path) -> Learning:
    return Learning(configuration.load({"cache_dir": str(tmp_path)}, {}))


def test_what_pauses_is_kept_and_gone_by_next(learning: Learning, engine: Any) -> None:
    learning.add(engine, "one", ENTRY)
    learning.add(engine, "two", ENTRY)
    learning.add(engine, "elsewhere", {**ENTRY, "prefix": "n/"})
    engine.grown = [("m/llm", HALF)]
    learning.look(engine)
    assert learning.store(ENTRY).get("m/llm") is None, "it may go on"
    learning.look(engine)
    assert learning.store(ENTRY).get("m/llm") == HALF
    assert engine.followed == [("one", "m/llm", HALF, False), ("two", "m/llm", HALF, False)]


def test_half_a_load_replaces_no_whole_one(learning: Learning, engine: Any) -> None:
    learning.add(engine, "one", ENTRY)
    learning.store(ENTRY).put("m/llm", FULL)
    engine.grown = [("m/llm", HALF)]
    learning.keep(engine, "one")
    known = learning.store(ENTRY).get("m/llm")
    assert known is not None
    assert (known.bytes, known.steps[0], known.files[0]) == (FULL.bytes, (0, 0, 50), ("b", 50))


def test_what_is_recalled_is_older_than_what_was_given(learning: Learning, engine: Any) -> None:
    learning.store(ENTRY).put("m/llm", FULL)
    learning.store(ENTRY).put("n/llm", FULL)
    learning.add(engine, "one", ENTRY)
    learning.put(engine, learning.store(ENTRY), "m/llm", HALF)
    learning.recall(engine, "one")
    assert engine.followed == [("one", "m/llm", HALF, True)]
    learning.settle(engine, "one")
    learning.add(engine, "one", ENTRY)
    learning.recall(engine, "one")
    assert engine.followed[1:] == [("one", "m/llm", HALF, False)]


def test_an_order_that_is_given_replaces_what_was_recorded_of_that_directory_alone(learning: Learning, engine: Any) -> None:
    learning.add(engine, "one", ENTRY)
    engine.grown = [("m/llm", FULL), ("m/llm/sub", FULL)]
    learning.look(engine)
    learning.put(engine, learning.store(ENTRY), "m/llm", HALF)
    learning.look(engine)
    assert learning.store(ENTRY).get("m/llm") == HALF
    assert learning.store(ENTRY).get("m/llm/sub") == FULL


def test_nobody_waits_for_what_is_recalled(learning: Learning, engine: Any) -> None:
    learning.store(ENTRY).put("m/llm", FULL)
    learning.add(engine, "one", ENTRY)
    assert engine.followed == [], "a mount is served first"
    learning.start()
    wait_until("the recall", lambda: engine.followed == [("one", "m/llm", FULL, False)])


def test_an_origin_goes_although_its_learning_fails() -> None:
    def fail(_engine: Any, _origin_id: str) -> None:
        raise RuntimeError

    removed: list[str] = []
    node: Any = SimpleNamespace(engine=SimpleNamespace(remove_origin=removed.append), learning=SimpleNamespace(settle=fail))
    with pytest.raises(RuntimeError):
        Node.remove_origin(node, "one")
    assert removed == ["one"]


def test_so_many_steps_are_recalled(learning: Learning, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.node.learning._RECALLED_STEPS", 7)
    for number in range(4):
        learning.store(ENTRY).put(f"m/{number}", FULL)
    learning.add(engine, "one", ENTRY)
    learning.recall(engine, "one")
    assert len(engine.followed) == 2


def test_nothing_is_recalled_where_nothing_is_learned(tmp_path: Path, engine: Any) -> None:
    chosen = dataclasses.replace(configuration.load({"cache_dir": str(tmp_path)}, {}), learn_order=False)
    learning = Learning(chosen)
    learning.add(engine, "one", ENTRY)
    assert learning._to_recall.empty()
    learning.put(engine, learning.store(ENTRY), "m/llm", FULL)
    assert engine.followed == [("one", "m/llm", FULL, True)], "what is given is gone by all the same"


def test_forgetting_reaches_every_origin_of_the_bucket_and_what_was_not_kept_yet(learning: Learning, engine: Any) -> None:
    learning.add(engine, "one", ENTRY)
    learning.add(engine, "two", {**ENTRY, "prefix": ""})
    learning.add(engine, "other", {**ENTRY, "bucket": "c"})
    learning.store(ENTRY).put("m/llm", FULL)
    learning.store(ENTRY).put("m/llm2", FULL)
    engine.grown = [("m/llm", HALF)]
    learning.look(engine)
    assert learning.drop(engine, learning.store(ENTRY), "m/llm") == 1
    assert engine.forgotten == [("one", "m/llm"), ("two", "m/llm")]
    learning.settle_all(engine)
    assert learning.store(ENTRY).get("m/llm") is None
    assert learning.store(ENTRY).get("m/llm2") == FULL


def test_what_goes_wrong_is_told_and_ends_nothing(learning: Learning, capfd: pytest.CaptureFixture[str]) -> None:
    broken: Any = object()  # knows no orders at all
    learning.add(broken, "one", ENTRY)
    learning.store(ENTRY).put("m/llm", FULL)
    learning.recall(broken, "one")
    learning.look(broken)
    learning.keep(broken, "one")
    learning.settle_all(broken)
    assert capfd.readouterr().err.count("loads go on without") == 4


def test_a_disk_that_does_not_take_an_order_is_told_with_its_reason(learning: Learning, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: Any, _directory: str, _order: Order) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headrace.node.order_store.OrderStore.put", fail)
    with pytest.raises(CacheFailure, match=r"order: .*No space left on device; .*try again"):
        learning.put(engine, learning.store(ENTRY), "m/llm", FULL)
