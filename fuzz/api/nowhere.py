"""`headrace up` on a machine where no name resolves: a generated endpoint must not make it ask anybody, not even for an address."""

from __future__ import annotations

import functools
import socket

from headrace.cli import main

if __name__ == "__main__":
    socket.getaddrinfo = functools.partial(socket.getaddrinfo, flags=socket.AI_NUMERICHOST)
    main()
