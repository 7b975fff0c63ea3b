"""Learned orders on disk, and what is no order."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import UsageError
from headrace.node.order_store import OrderStore
from headrace.node.orders import DOCUMENT_BYTES_MAX, Order, encoded, merged, parse

ORDER = Order([("a.safetensors", 100), ("b.safetensors", 50)], [(0, 0, 10), (1, 0, 50), (0, 10, 100)])


def store(path: Path) -> OrderStore:
    return OrderStore(path, "http://e", "b")


def test_an_order_survives_being_written_and_read(tmp_path: Path) -> None:
    store(tmp_path).put("m/qwen", ORDER)
    assert store(tmp_path).get("m/qwen") == ORDER
    assert store(tmp_path).get("m/other") is None
    assert OrderStore(tmp_path, "http://e", "c").get("m/qwen") is None
    assert parse(json.loads(json.dumps(ORDER.document("m/qwen")))) == ORDER
    assert ORDER.bytes == 150


def test_directories_are_found_by_prefix(tmp_path: Path) -> None:
    for directory in ("m", "m/qwen", "mm", ""):
        store(tmp_path).put(directory, ORDER)
    assert {name for name, _ in store(tmp_path).newest("m/")} == {"m", "m/qwen"}
    assert len(list(store(tmp_path).newest(""))) == 4
    assert len(list(store(tmp_path).newest("", 2))) == 2


def test_only_so_many_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.node.order_store._KEPT", 3)
    for number in range(5):
        store(tmp_path).put(f"m{number}", ORDER)
    assert len(list(tmp_path.rglob("*.json"))) == 3
    assert store(tmp_path).get("m4") == ORDER


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"headrace_order": 2}', b"[" * 100_000])
def test_a_damaged_file_goes(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    store(tmp_path).put("m", ORDER)
    (file,) = tmp_path.rglob("*.json")
    file.write_bytes(content)
    assert store(tmp_path).get("m") is None
    assert not file.exists()
    assert "learned order" in capfd.readouterr().err


def test_a_file_that_cannot_be_read_is_no_order(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Orders lie on the cache disk, and a node goes on without it."""
    store(tmp_path).put("m", ORDER)
    (file,) = tmp_path.rglob("*.json")
    file.unlink()
    file.mkdir()
    assert store(tmp_path).get("m") is None
    assert list(store(tmp_path).newest("")) == []
    assert "cannot read" in capfd.readouterr().err


def test_a_directory_that_cannot_be_read_has_no_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(_path: Path, _pattern: str) -> list[Path]:
        raise OSError("input/output error")

    store(tmp_path).put("m", ORDER)
    monkeypatch.setattr(Path, "glob", fail)
    assert list(store(tmp_path).newest("")) == []
    assert "cannot read" in capfd.readouterr().err


@pytest.mark.parametrize("directory", ["other", "\ud800"])
def test_a_file_of_another_directory_goes(tmp_path: Path, directory: str, capfd: pytest.CaptureFixture[str]) -> None:
    store(tmp_path).put("m", ORDER)
    (file,) = tmp_path.rglob("*.json")
    file.write_text(json.dumps(ORDER.document(directory)))
    assert store(tmp_path).get("m") is None
    assert not file.exists()
    assert "learned order" in capfd.readouterr().err


def test_what_was_not_written_whole_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_source: str, _target: Path) -> None:
        raise OSError("no space left")

    store(tmp_path).put("m", ORDER)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        store(tmp_path).put("n", ORDER)
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".json"]


def test_what_would_not_be_read_again_is_not_kept(tmp_path: Path) -> None:
    store(tmp_path).put("m", ORDER)
    for bad in (Order([("a", 10)], [(0, 5, 11)]), Order([("a", 10)], [(0, 0, 5), (0, 4, 9)]), Order([("a\n", 10)], [(0, 0, 5)])):
        with pytest.raises(UsageError, match="order:"):
            store(tmp_path).put("m", bad)
    assert store(tmp_path).get("m") == ORDER


def test_what_a_killed_node_was_writing_goes(tmp_path: Path) -> None:
    store(tmp_path).put("m", ORDER)
    folder = next(tmp_path.rglob("*.json")).parent
    (folder / "old.part").touch()
    os.utime(folder / "old.part", (1, 1))
    (folder / "new.part").touch()
    store(tmp_path).put("m", ORDER)
    assert [path.name for path in folder.glob("*.part")] == ["new.part"]


def test_dropping_tells_whether_there_was_one(tmp_path: Path) -> None:
    store(tmp_path).put("m", ORDER)
    assert store(tmp_path).drop("m")
    assert not store(tmp_path).drop("m")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("headrace_order", 0),
        ("headrace_order", 1.0),
        ("headrace_order", True),
        ("files", None),
        ("files", [["a"]]),
        ("files", [["a/b", 100], ["b", 50]]),
        ("files", [["", 100], ["b", 50]]),
        ("files", [["\ud800", 100], ["b", 50]]),
        ("files", [["a", -1], ["b", 50]]),
        ("files", [["a", True], ["b", 50]]),
        ("files", [["a", 1]] * 5000),
        ("files", [["a", 100], ["a", 50]]),
        ("files", [["a", 2**51], ["b", 50]]),
        ("files", [["..", 100], ["b", 50]]),
        ("files", [[".", 100], ["b", 50]]),
        ("files", [["a\x1b[2J", 100], ["b", 50]]),
        ("files", [["a\x7f", 100], ["b", 50]]),
        ("files", [["a\x9b2J", 100], ["b", 50]]),
        ("steps", {}),
        ("steps", [[2, 0, 1]]),
        ("steps", [[0, 5, 5]]),
        ("steps", [[0, 0, 101]]),
        ("steps", [[0, -1, 5]]),
        ("steps", [[0, 0, 2**64]]),
        ("steps", [[0, 0.0, 5]]),
        ("steps", [[0, 0, 1]] * 70_000),
        ("steps", []),
        ("steps", [[0, 0, 10], [1, 0, 5], [0, 9, 20]]),
        ("steps", [[0, True, 5]]),
        ("steps", [[0, 0, 5, 6]]),
    ],
)
def test_what_does_not_fit_is_named(part: str, value: Any) -> None:
    document = {**json.loads(json.dumps(ORDER.document("m"))), part: value}
    with pytest.raises(UsageError, match=r"order: .*(export)"):
        parse(document)


def test_half_a_load_takes_nothing_away() -> None:
    half = Order([("b", 50), ("a", 100)], [(0, 0, 50), (1, 0, 30)])
    known = Order([("a", 100), ("b", 50), ("c", 7)], [(0, 20, 40), (1, 0, 50), (2, 0, 7), (0, 0, 20), (0, 40, 100)])
    assert merged(half, known) == Order([("b", 50), ("a", 100), ("c", 7)], [(0, 0, 50), (1, 0, 30), (1, 30, 40), (2, 0, 7), (1, 40, 100)])
    assert merged(known, half) == known, "what comes to everything stands alone"
    assert merged(half, None) == half


def test_what_lies_between_is_left_of_a_step() -> None:
    known = Order([("a", 100)], [(0, 0, 100)])
    assert merged(Order([("a", 100)], [(0, 90, 100), (0, 20, 30), (0, 0, 10)]), known).steps[3:] == [(0, 10, 20), (0, 30, 90)]


def test_a_smaller_model_of_the_same_names_is_learned() -> None:
    """It used to be refused for ever: bytes were compared, whatever they were of."""
    small = Order([("a", 10), ("b", 5)], [(1, 0, 5), (0, 0, 10)])
    large = Order([("a", 1000), ("b", 500)], [(0, 0, 1000), (1, 0, 500)])
    assert merged(small, large) == Order([("b", 5), ("a", 10)], [(0, 0, 5), (1, 0, 10)])
    invented = Order([("z", 2**50)], [(0, 0, 2**50)])
    assert merged(small, invented).steps[:2] == [(0, 0, 5), (1, 0, 10)]


def test_an_order_is_no_larger_than_a_document() -> None:
    files = [(f"{number:04}" + "\u00fc" * 100, 2**50) for number in range(4096)]
    steps = [(number % 4096, 2**49 + number * 2, 2**49 + number * 2 + 1) for number in range(65_536)]
    order = merged(Order(files, steps), Order([("more", 9)], [(0, 0, 9)]))
    assert 1000 < len(order.steps) < len(steps)
    assert len(encoded(order.document("m"))) <= DOCUMENT_BYTES_MAX
    assert parse(json.loads(encoded(order.document("m")))) == order


def test_names_that_no_document_may_have_are_left_out() -> None:
    assert merged(Order([("a\x1b", 9), ("b", 9)], [(0, 0, 9), (1, 0, 9)]), None) == Order([("b", 9)], [(0, 0, 9)])
