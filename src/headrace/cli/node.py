"""`headrace node`: the node for systemd and containers, with the mounts of the configuration file.

This process only watches. Node and keeper are processes of their own, as always, so that killing this one breaks no
mount, and starting it again finds the same node. Being connected to the node keeps that from stopping when idle.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from typing import Annotated, Any

import typer

from headrace import settings as configuration
from headrace.cli import show
from headrace.cli.fstab import parse
from headrace.cli.reach import running
from headrace.errors import HeadraceError, NodeFailure, UsageError
from headrace.node.client import Client, connect_or_start

_LOOK_SECONDS = 1.0
# A mount that fails because the network is away is tried again after these pauses, and then every last one.
_RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)


def node(stop: Annotated[bool, typer.Option("--stop", help="Unmount everything and stop the running node.")] = False) -> None:
    """Run the node in the foreground, with the mounts of the configuration file. SIGTERM unmounts them and stops it."""
    if stop:
        with running() as client:
            client.call("stop")
        return
    Watch(configuration.load()).run()


def configured() -> list[tuple[Any, dict[str, str | None]]]:
    """The `[[mounts]]` of the configuration file: `source`, `directory`, and options named as in fstab."""
    mounts = configuration.read_config(os.environ).get("mounts", [])
    if not isinstance(mounts, list):
        raise UsageError("bad-setting", f"{configuration.config_file(os.environ)}: mounts is {mounts!r}; write a table [[mounts]] for each of them")
    requests = []
    for number, entry in enumerate(mounts, 1):
        if not isinstance(entry, dict) or not entry.get("source") or not entry.get("directory"):
            raise UsageError("bad-setting", f"{configuration.config_file(os.environ)}: [[mounts]] number {number} needs source and directory")
        options = [_option(name, value) for name, value in entry.items() if name not in ("source", "directory")]
        requests.append(parse(str(entry["source"]), str(entry["directory"]), [o for o in options if o]))
    return requests


def _option(name: str, value: object) -> str:
    if value is True:
        return name
    return "" if value is False else f"{name}={value}"


class Watch:
    """Keeps a node running, and the configured mounts mounted, until a signal."""

    def __init__(self, settings: configuration.Settings) -> None:
        self.settings = settings
        self.waiting = [request for request, _ in configured()]
        self.tries = 0
        self.next_try = 0.0
        self.asked = threading.Event()
        self.pid = 0

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.asked.set())
        client = self._connected()
        self._mount_waiting(client)
        _notify("READY=1")
        elapsed = 0.0
        while not self.asked.wait(_LOOK_SECONDS):
            elapsed += _LOOK_SECONDS
            client = self._still_connected(client)
            if self.waiting and elapsed >= self.next_try:
                self._mount_waiting(client)
                self.next_try = elapsed + _RETRY_SECONDS[min(self.tries, len(_RETRY_SECONDS) - 1)]
                self.tries += 1
        _notify("STOPPING=1")
        client.call("stop")

    def _connected(self) -> Client:
        client = connect_or_start(self.settings)
        pid = client.call("ping")["pid"]
        if pid != self.pid:
            print(f"node {pid} serves {self.settings.socket}", flush=True)
        self.pid = pid
        return client

    def _still_connected(self, client: Client) -> Client:
        """Killed or replaced: whoever listens there now is the node; nobody: both were killed, and all is mounted again."""
        try:
            client.call("ping")
        except (NodeFailure, OSError):
            client.close()
            client = self._connected()
            present = {mounted["directory"] for mounted in client.call("ping")["mounts"]}
            self.waiting = [request for request, _ in configured() if request.directory not in present]
        return client

    def _mount_waiting(self, client: Client) -> None:
        """Those that fail stay for another try, and keep no other waiting."""
        present = {mounted["directory"] for mounted in client.call("ping")["mounts"]}
        left = []
        for request in self.waiting:
            if request.directory in present:
                continue
            try:
                request.ask(client)
                print(f"{request.source} is mounted at {request.directory}", flush=True)
            except HeadraceError as failure:
                left.append(request)
                print(f"{request.source} at {request.directory}:", end=" ", file=sys.stderr)
                show.error(failure)
        self.waiting = left


def _notify(state: str) -> None:
    """Tells systemd, where it asked for it (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
