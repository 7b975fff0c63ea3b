"""`python -m headrace.node FD`: the node, started by the keeper that holds the other end of FD."""

from __future__ import annotations

import resource
import socket
import sys

from headrace.node.keeper import receive_all
from headrace.node.service import Node


def main() -> None:
    # A descriptor for each open file and connection: what the system allows, not its cautious default.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    Node(channel, receive_all(channel)).run()


if __name__ == "__main__":
    main()
