"""The commands' side of the protocol, against sockets that are no node."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import pytest

from headrace import settings
from headrace.errors import NodeFailure
from headrace.node import client


def test_a_keeper_without_a_node_is_not_waited_for_forever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "node.sock")
    monkeypatch.setattr(client, "_HELLO_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(NodeFailure, match=r"none has answered.*headrace logs"):
            client.connect(dataclasses.replace(settings.load({}, {"HOME": str(tmp_path)}), socket=path))
