"""How the control plane listens."""

from __future__ import annotations

import socket

from headrace.control import server, settings


def test_an_answer_does_not_wait_until_its_first_part_is_acknowledged() -> None:
    """Every answer on a connection that was used before took 40 ms."""
    with (
        server._listen(settings.load({"control_listen": "127.0.0.1:0"}, {"HOME": "/nonexistent"})) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
