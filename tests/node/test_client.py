"""The commands' side of the protocol, against sockets that are no node."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from pathlib import Path

import pytest

from headrace import settings
from headrace.errors import NodeFailure, UsageError
from headrace.node import client


def test_a_keeper_without_a_node_is_not_waited_for_forever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "node.sock")
    monkeypatch.setattr(client, "_HELLO_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(NodeFailure, match=r"none has answered.*headrace logs"):
            client.connect(dataclasses.replace(settings.load({}, {"HOME": str(tmp_path)}), socket=path))


def test_a_socket_with_too_long_a_path_is_told_as_such(tmp_path: Path) -> None:
    """The message was that only its own user and root may connect."""
    path = str(tmp_path / ("x" * 100) / "node.sock")
    with pytest.raises(UsageError, match=r"too long.*at most 107.*HEADRACE_NODE"):
        client.connect(dataclasses.replace(settings.load({}, {"HOME": str(tmp_path)}), socket=path))


def test_a_node_that_dies_before_it_greets_is_not_the_one_to_ask(tmp_path: Path) -> None:
    """Commands failed when the node was killed just as they came: its successor is asked instead."""
    path = str(tmp_path / "node.sock")

    def die_twice_and_greet(listener: socket.socket) -> None:
        for _ in range(2):
            listener.accept()[0].close()
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as lines:
            lines.write(b'{"headrace": "0.1.0", "protocol": [1, 1]}\n')
            lines.flush()
            request = json.loads(lines.readline())
            lines.write(json.dumps({"id": request["id"], "result": "alive"}).encode() + b"\n")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        node = threading.Thread(target=die_twice_and_greet, args=(listener,))
        node.start()
        found = client.connect(dataclasses.replace(settings.load({}, {"HOME": str(tmp_path)}), socket=path))
        assert found is not None
        with found:
            assert found.call("ping") == "alive"
        node.join()
