"""What may come over the control socket: a message, or an error that says why it is none."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from headrace.errors import UsageError
from headrace.node import protocol
from headrace.node.methods import METHODS
from headrace.node.parameters import PARAMETERS, TEXT_BYTES_MAX, checked
from headrace.node.protocol import Lines, Malformed

MOUNT = {"source": "s3://b", "directory": "/d", "environment": {}, "look": {"file_mode": 0o444}}


def received(line: bytes) -> Any:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(line)
        ours.shutdown(socket.SHUT_WR)
        lines = Lines(theirs)
        try:
            return lines.receive()
        finally:
            lines.close()


@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"{\n", b'{"id": 1}', b"[]\n", b"null\n", b'{"id": NaN}\n', b'{"id": -Infinity}\n', b'{"id": 1.5}\n', b'{"id": []}\n',
        b'{"id": "' + b"x" * 65 + b'"}\n', b'"\xff"\n', b'{"id": ' + b"1" * 5000 + b"}\n",
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(Malformed):
        received(line)


def test_brackets_in_brackets_are_refused_and_not_followed() -> None:
    with pytest.raises(Malformed, match="not JSON"):
        received(b'{"id": ' + b"[" * 100_000 + b"\n")


def test_a_line_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LINE_MAX", 100)
    assert received(b'{"id": 1}\n') == {"id": 1}
    with pytest.raises(Malformed, match="too long"):
        received(b'{"id": 1, "method": "' + b"x" * 100 + b'"}\n')


def test_every_method_says_what_it_takes() -> None:
    assert PARAMETERS.keys() == METHODS.keys()


def test_what_fits_is_let_through() -> None:
    assert checked("ping", None) == {}
    assert checked("mount", MOUNT | {"newer": 1})["newer"] == 1
    assert checked("mount", MOUNT | {"origin": {"region": None, "anonymous": True}, "snapshot": "v1", "pin": True})["pin"] is True


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("ping", [], "params"),
        ("umount", {}, "directory"),
        ("umount", {"directory": 7}, "directory"),
        ("umount", {"directory": "a\0b"}, "directory"),
        ("umount", {"directory": "\ud800"}, "directory"),
        ("umount", {"directory": "x" * (TEXT_BYTES_MAX + 1)}, "directory"),
        ("umount", {"directory": "/d", "lazy": 1}, "lazy"),
        ("warm", {"paths": []}, "paths"),
        ("warm", {"paths": ["a", None]}, "paths"),
        ("warm", {"paths": "a"}, "paths"),
        ("cache.list", {"limit": -1}, "limit"),
        ("cache.list", {"limit": 2**32}, "limit"),
        ("cache.list", {"limit": True}, "limit"),
        ("mount", MOUNT | {"environment": {"A": 1}}, "environment"),
        ("mount", MOUNT | {"environment": None}, "environment"),
        ("mount", MOUNT | {"look": {"file_mode": 0, "colour": "red"}}, "look"),
        ("mount", MOUNT | {"origin": {"anonymous": "yes"}}, "origin"),
    ],
)
def test_what_does_not_fit_is_named(method: str, params: Any, name: str) -> None:
    with pytest.raises(UsageError, match=f"^{method}: {name} must be ") as caught:
        checked(method, params)
    assert caught.value.code == "bad-request"
