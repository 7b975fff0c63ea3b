"""`python -m headrace.node FD`: the node, started by the keeper that holds the other end of FD."""

from __future__ import annotations

import socket
import sys

from headrace.node.keeper import receive_all
from headrace.node.service import Node


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    Node(channel, receive_all(channel)).run()


if __name__ == "__main__":
    main()
