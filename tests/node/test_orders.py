"""Learned orders on disk, and what is no order."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import UsageError
from headrace.node.orders import Order, OrderStore, parse

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
    monkeypatch.setattr("headrace.node.orders._KEPT", 3)
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


def test_what_was_not_written_whole_leaves_nothing(tmp_path: Path) -> None:
    class Unwritable(Order):
        def document(self, directory: str) -> dict[str, Any]:
            raise OSError("no space left")

    store(tmp_path).put("m", ORDER)
    with pytest.raises(OSError, match="no space"):
        store(tmp_path).put("n", Unwritable([], []))
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".json"]


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
        ("files", None),
        ("files", [["a"]]),
        ("files", [["a/b", 100], ["b", 50]]),
        ("files", [["", 100], ["b", 50]]),
        ("files", [["\ud800", 100], ["b", 50]]),
        ("files", [["a", -1], ["b", 50]]),
        ("files", [["a", True], ["b", 50]]),
        ("files", [["a", 1]] * 5000),
        ("steps", {}),
        ("steps", [[2, 0, 1]]),
        ("steps", [[0, 5, 5]]),
        ("steps", [[0, 0, 101]]),
        ("steps", [[0, -1, 5]]),
        ("steps", [[0, 0, 2**64]]),
        ("steps", [[0, 0.0, 5]]),
        ("steps", [[0, 0, 1]] * 70_000),
    ],
)
def test_what_does_not_fit_is_named(part: str, value: Any) -> None:
    document = {**json.loads(json.dumps(ORDER.document("m"))), part: value}
    with pytest.raises(UsageError, match=r"order: .*(export)"):
        parse(document)
