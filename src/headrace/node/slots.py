"""What a mount's slots stand for: told to the keeper before the kernel can know, checked before a successor serves it.

The kernel holds numbers of files: a slot, and a place in that slot's list. By another list under the same slot they would be other
files. So the keeper is told of each list, beside its path, what it is; a successor serves a slot from that very list or not at all.

A slot that is left out answers ESTALE, and its number is never used again: so one that the mount no longer shows may be lost without the
mount. Without the one that it shows, the mount ends.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING, Any

from headrace._engine import Engine, EngineError
from headrace.errors import HeadraceError, from_code
from headrace.node.volumes import CHANGING

if TYPE_CHECKING:
    from headrace.node.service import Node

# A list's header is within this. It holds the time it was made, and a checksum of each of its other parts.
_HEADER_BYTES = 64 * 1024
# How the engine's ledger of a mount begins (`engine/mount/src/ledger.rs`): magic, format, two words that don't matter here, the next slot,
# and the one that is shown.
_LEDGER = struct.Struct("=6Q")
_LEDGER_MAGIC, _LEDGER_FORMAT = 0x4845_4144_5241_4345, 2


def identity(path: str) -> str:
    """What a list is, whatever its name. Raises EngineError or HeadraceError when it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.blake2b(file.read(_HEADER_BYTES), digest_size=16).hexdigest()
    except OSError as error:
        Engine.snapshot_info(path)  # says it better
        raise from_code("bad-snapshot", f"snapshot {path}: {error.strerror}; list the origin again with `headrace refresh`") from error


def first(node: Node, mount_id: str, version: str, found: str) -> dict[str, Any]:
    """What is kept of the one slot of a mount that was just made, of the list that is `found` (its `identity`)."""
    slots = {str(slot): path for slot, path in node.engine.mount_slots(mount_id).items()}
    return {"snapshot": version, "slots": slots, "lists": {slot: {"is": found, "version": version} for slot in slots}}


def switch(node: Node, mount_id: str, entry: dict[str, Any], version: str, path: str, **more: Any) -> None:
    """Shows the list at `path`, for which the caller holds `node.commands`; `more` changes what is kept of the mount with it.

    Raises EngineError or HeadraceError for a list that can't be shown, and then nothing has changed.
    """
    with CHANGING:  # from now on it is known to be in use, or is gone already
        Engine.snapshot_info(path)
        found = identity(path)
        slots, lists = entry["slots"], entry.get("lists", {})
        slot = _shown_before(slots, lists, path, found) or node.engine.mount_reserve_slot(mount_id)
        before = {"slots": slots, "lists": lists, **{name: entry[name] for name in ("snapshot", *more)}}
        # The keeper knows the slot before the kernel can: a successor must be able to open it.
        node.update_mount(
            mount_id,
            {
                "slots": {**slots, str(slot): path},
                "lists": {**lists, str(slot): {"is": found, "version": version}},
                "snapshot": version,
                **more,
            },
        )
    try:
        # Without the lock: this may wait for the kernel.
        node.engine.mount_switch(mount_id, slot, path)
    except EngineError:
        node.update_mount(mount_id, before)
        raise


def _shown_before(slots: dict[str, str], lists: dict[str, Any], path: str, found: str) -> int | None:
    """The slot of the very same list, if the mount has shown it: then nothing needs another."""
    return next((int(slot) for slot, one in lists.items() if one["is"] == found and slots.get(slot) == path), None)


def resume(engine: Engine, mount_id: str, mount: dict[str, Any], fuse: int, state: int) -> dict[str, Any]:
    """Goes on with a mount of a node that has died; gives what is to be changed in what is kept of it.

    Raises EngineError or HeadraceError when its lists are not what the kernel knows files of.
    """
    slots, lists = {int(slot): str(path) for slot, path in mount["slots"].items()}, mount.get("lists", {})
    shown = _shown(state)
    lost = {slot: reason for slot, path in slots.items() if (reason := _other(path, lists.get(str(slot))))}

    def begin() -> None:
        good = {slot: path for slot, path in slots.items() if slot not in lost}
        current = max(slots) if shown is None else shown
        if lost and (shown is None or shown in lost):
            raise from_code("bad-snapshot", lost.get(current) or next(iter(lost.values())))
        engine.mount_resume(
            mount_id,
            mount.get("origin_id", mount_id),
            good,
            current,
            fuse_fd=fuse,
            state_fd=state,
            directory=mount["directory"],
            **mount["look"],
        )

    try:
        begin()
    except EngineError:
        # The engine opens all lists before it does anything, so nothing has begun if one of them can't be opened.
        bad = {slot: reason for slot, path in slots.items() if slot not in lost and (reason := _unreadable(path))}
        if not bad:
            raise
        lost.update(bad)
        begin()
    change: dict[str, Any] = {}
    if lost:
        change = {name: {slot: one for slot, one in mount.get(name, {}).items() if int(slot) not in lost} for name in ("slots", "lists")}
    # A node killed in the midst of a switch had told of it, and not shown it.
    version = lists.get(str(shown), {}).get("version", mount["snapshot"])
    if version != mount["snapshot"]:
        change["snapshot"] = version
        if "task" in mount:
            change["task"] = {**mount["task"], "version": int(version[1:])}
    return change | ({"lost": list(lost.values())} if lost else {})


def _shown(state: int) -> int | None:
    """The slot that a mount shows, as its ledger says; None for the ledger of another version."""
    head = os.pread(state, _LEDGER.size, 0)
    if len(head) < _LEDGER.size:
        return None
    magic, form, _, _, _, current = _LEDGER.unpack(head)
    return current if (magic, form) == (_LEDGER_MAGIC, _LEDGER_FORMAT) else None


def _other(path: str, told: dict[str, Any] | None) -> str | None:
    """Why the file at `path` is not the list that was told of. Of what a node of an earlier version told, only the path is known."""
    if told is None:
        return None
    try:
        same = identity(path) == told["is"]
    except (EngineError, HeadraceError) as error:
        return error.message
    return None if same else _unreadable(path) or f"snapshot {path}: another list than the one that was shown ({told['version']}) lies there"


def _unreadable(path: str) -> str | None:
    try:
        Engine.snapshot_info(path)
    except EngineError as error:
        return error.message
    return None
