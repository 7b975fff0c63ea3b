"""What the control plane accepts connections on."""

from __future__ import annotations

import socket

from headrace.control import server, settings


def test_no_part_of_an_answer_waits_for_the_last_to_be_confirmed() -> None:
    chosen = settings.load({"control_listen": "127.0.0.1:0"}, {"HOME": "/nonexistent"})
    with server._listen(chosen) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
