"""The node's sockets: commands, from the docstrings of protocol and methods; bytes, from the story of the hand-out crate; tasks, from the door's."""

from __future__ import annotations

import inspect
from pathlib import Path

from headrace.node import protocol, task_door
from headrace.node.methods import METHODS

_HANDOUT = Path(__file__).parents[2] / "engine/handout/src/lib.rs"


def page() -> str:
    lines = [
        "# Protocol",
        "",
        "Generated from `headrace/node/protocol.py`, `headrace/node/methods.py`, `engine/handout` and `headrace/node/task_door.py`.",
        "",
    ]
    lines += [
        "The node listens on two Unix sockets in a directory of mode 0700: `NAME.sock` for commands, `NAME.data.sock` for bytes. One",
        "that has joined a control plane listens at the task door besides (setting `task_socket`).",
        "",
    ]
    lines += ["## Commands", "", inspect.getdoc(protocol) or "", "", "### Methods"]
    for name, method in METHODS.items():
        text = inspect.getdoc(method)
        if not text:
            raise ValueError(f"methods.py: {method.__name__} has no docstring; say what it takes and answers")
        lines += ["", f"#### {name}", "", text]
    return "\n".join([*lines, "", "## Bytes", "", *_story(), "", "## Tasks", "", inspect.getdoc(task_door) or ""]) + "\n"


def _story() -> list[str]:
    """The `//!` lines that open the crate."""
    lines = _HANDOUT.read_text().splitlines()
    return [line.removeprefix("//!").removeprefix(" ") for line in lines if line.startswith("//!")]
