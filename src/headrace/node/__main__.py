"""`python -m headrace.node FD SECONDS`: the node, started by the keeper that holds the other end of FD.

After deaths of its predecessors it waits for SECONDS before it serves: here and not in the keeper, so that two processes hold
the descriptors meanwhile. The service is loaded after that: what it dies of, it dies of then.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import sys
import time

from headrace.node import parcel
from headrace.node.keeper import Kept, another_keeper, receive_all
from headrace.node.last_resort import swallow_errors_of_stderr

# Between tries to start a keeper.
_AGAIN_SECONDS = 0.2


def wait_holding(channel: socket.socket, kept: Kept, seconds: float) -> tuple[socket.socket, int]:
    """Tells the keeper that everything is held, then waits; starts another keeper when it dies meanwhile. The channel and process of the last."""
    keeper = os.getppid()
    try:
        parcel.send(channel, {"op": "held"})
        parcel.receive(channel)
    except OSError as error:  # what a dead keeper looks like, which the wait below finds
        print(f"node: the keeper does not answer: {error}", file=sys.stderr, flush=True)
    until = time.monotonic() + seconds
    while True:
        left = max(0.0, until - time.monotonic())
        # A keeper says nothing of its own accord: what can be read is its end. Looked for at least once, because it may have died meanwhile.
        if channel.fileno() < 0:
            time.sleep(min(left, _AGAIN_SECONDS))
        elif not select.select([channel], [], [], left)[0]:
            return channel, keeper
        channel.close()
        try:
            channel, keeper = another_keeper(kept)
        except OSError as error:
            print(f"node: starting another keeper: {error}", file=sys.stderr, flush=True)
            if not left:
                return channel, keeper  # closed: the service tries again


def main() -> None:
    swallow_errors_of_stderr()
    # A descriptor for each open file and connection: what the system allows, not its cautious default.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    kept = receive_all(channel)
    keeper = os.getppid()
    if len(sys.argv) > 2:  # a keeper from before an upgrade says nothing of waiting, and would not understand that it is held
        channel, keeper = wait_holding(channel, kept, float(sys.argv[2]))
    from headrace.node.service import Node

    Node(channel, kept, keeper).run()


if __name__ == "__main__":
    main()
