"""`headrace node`: the node for systemd and containers, with the mounts of the configuration file; and how it joins a control plane.

This process only watches. Node and keeper are processes of their own, as always, so that killing this one breaks no
mount, and starting it again finds the same node. Being connected to the node keeps that from stopping when idle.
"""

from __future__ import annotations

import getpass
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace import settings as configuration
from headrace.cli import show
from headrace.cli.control import Url
from headrace.cli.fstab import parse
from headrace.cli.reach import Json, print_json, running
from headrace.errors import HeadraceError, NodeFailure, UsageError
from headrace.node.client import Client, connect_or_start

_LOOK_SECONDS = 1.0
# A mount that fails because the network is away is tried again after these pauses, and then every last one.
_RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)


app = typer.Typer(
    invoke_without_command=True, rich_markup_mode=None, epilog="Example: headrace node   (under systemd: see deploy/systemd)",
    help="Run the node in the foreground, with the mounts of the configuration file. SIGTERM unmounts them and stops it.",
)  # fmt: skip


@app.callback()
def node(context: typer.Context, stop: Annotated[bool, typer.Option("--stop", help="Unmount everything and stop the running node.")] = False) -> None:
    """Run the node in the foreground, with the mounts of the configuration file. SIGTERM unmounts them and stops it."""
    if context.invoked_subcommand is not None:
        if stop:
            raise UsageError("bad-setting", f"--stop: it does not go with {context.invoked_subcommand}; give one of the two")
        return
    if stop:
        with running() as client:
            client.call("stop")
        return
    Watch(configuration.load()).run()


@app.command("join", epilog="Example: HEADRACE_JOIN_TOKEN=hj_… headrace node join https://headrace.example.com:7370 --label gpu=H800")
def join(
    url: Url,
    name: Annotated[str | None, typer.Option(help="What this node is called there (the machine's name).")] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label, KEY=VALUE; may be given again.")] = None,
    ca: Annotated[Path | None, typer.Option(help="File of authorities to trust, in PEM, in place of the system's.")] = None,
    as_json: Json = False,
) -> None:
    """Join a region of a control plane, with the token that `headrace region join` makes: it is asked for, or taken from HEADRACE_JOIN_TOKEN."""
    labels = dict(map(_label, label or []))
    token = os.environ.get("HEADRACE_JOIN_TOKEN") or getpass.getpass("join token: ")
    with connect_or_start(configuration.load()) as client:
        answer = client.call(
            "control.join", url=url, token=token.strip(), name=name, labels=labels, certificates=None if ca is None else str(ca.absolute())
        )
    if as_json:
        return print_json(answer)
    print(f"this is now the node {answer['node_id']} of the region {answer['region']}")
    return None


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError("bad-setting", f"--label: {text!r} is not KEY=VALUE; write it like gpu=H800")
    return key, value


@app.command("leave", epilog="Example: headrace node leave")
def leave(as_json: Json = False) -> None:
    """Forget the control plane. What is cached stays until its room is needed; an administrator removes the node there."""
    with running() as client:
        answer = client.call("control.leave")
    if as_json:
        return print_json(answer)
    print(f"no longer the node {answer['node_id']} of the region {answer['region']}; remove it there: `headrace node rm {answer['node_id']}`")
    return None


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
