"""`headrace task`: jobs that mount volumes. Commands run where they are typed; the control plane knows that they use what they mount."""

from __future__ import annotations

import os
import secrets
import select
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.amounts import parse_bytes
from headrace.cli import show
from headrace.cli.interruption import noticing
from headrace.cli.logged_in import control, language
from headrace.cli.reach import Json, print_json
from headrace.cli.tables import print_table
from headrace.cli.task_line import WAIT_SECONDS, WAIT_SECONDS_MAX, Line, mount_of
from headrace.errors import Exit, NotFound, UsageError
from headrace.printable import printable

if TYPE_CHECKING:
    from headrace.client import ControlClient

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Jobs that mount volumes.")

Task = Annotated[str, typer.Argument(help="ID of the task, as `headrace task ls` shows it.")]
Region = Annotated[str, typer.Option(help="Name of the region.")]
Name = Annotated[str | None, typer.Option(help="What the task is called.")]
Follow = Annotated[
    bool,
    typer.Option("--follow", help="Show new versions as they become current, where none is named; without it the task stays on what it began with."),
]

_LASTS_SECONDS = 120
_BEAT_SECONDS = 30.0
_RETRY_SECONDS = 5.0
_LOOK_SECONDS = 0.2


@app.command(
    "run",
    context_settings={"allow_interspersed_args": False},
    epilog="Example: headrace task run --region zj-1 --mount qwen:/mnt/models --mount qwen@v3:/mnt/old -- python serve.py",
)
def run(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD…", help="What to run, as this user, here.")],
    region: Annotated[str, typer.Option(help="Region of this machine's node.")],
    mount: Annotated[list[str], typer.Option(help="VOLUME[@VERSION]:PATH; may be given again. The version is a number (v3) or a label.")],
    follow: Follow = False,
    name: Name = None,
    wait_seconds: Annotated[float, typer.Option(min=0, max=WAIT_SECONDS_MAX, help="Wait so long until everything can be mounted.")] = WAIT_SECONDS,
    times: Annotated[bool, typer.Option("--times", help="Tell on stderr how long each part of the start took.")] = False,
) -> None:
    """Run a command with volumes mounted read-only, where it alone sees them. This process becomes the command."""
    from headrace.cli.task_run import begin

    begin(Line(region, mount, command, follow, name, wait_seconds, times))


@app.command("ls", epilog="Example: headrace task ls --region zj-1")
def ls(
    region: Annotated[str | None, typer.Option(help="Of one region only.")] = None,
    volume: Annotated[str | None, typer.Option(help="That mount one volume only.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that have ended too.")] = False,
    as_json: Json = False,
) -> None:
    """Tasks, newest first."""
    filters = {"region": region, "volume": volume, "ended": None if everything else "false"}
    with control() as client:
        found = list(client.tasks(**{name: value for name, value in filters.items() if value is not None}))
    if as_json:
        return print_json(found)
    rows = [(t["id"], t["name"], t["region"], t["state"], ", ".join(map(_shown, t["mounts"])), t["node"] or "", t["created"]) for t in found]
    print_table(("ID", "NAME", "REGION", "STATE", "MOUNTS", "NODE", "STARTED"), rows, "no tasks; `headrace task run` starts one")
    return None


@app.command("show", epilog="Example: headrace task show 01JDX4Z6M8V2Q0")
def show_task(task: Task, as_json: Json = False) -> None:
    """One task: what it mounts, and until when its lease lasts."""
    with control() as client:
        found = client.task(_identified(task))
    if as_json:
        return print_json(found)
    for field in ("id", "name", "region", "node", "user", "owner", "state", "lease_until", "created", "ended"):
        if found[field] not in (None, ""):
            print(printable(f"{field:<12} {found[field]}"))
    if found["ended_because"]:
        print(printable(f"{'because':<12} {found['ended_because'].get(language(), '')}"))
    for mounted in found["mounts"]:
        follows = ", follows" if mounted["follow"] else ""
        waits = "" if mounted["mountable"] or found["ended"] else ", not mountable yet"
        print(printable(f"{'mount':<12} {_shown(mounted)} at {mounted['path']}{follows}{waits}{_pulled(mounted['pull'])}"))
    return None


@app.command("end", epilog="Example: headrace task end 01JDX4Z6M8V2Q0")
def end(task: Task, as_json: Json = False) -> None:
    """End a task: its mounts end, and programs that read there get an error."""
    with control() as client:
        found = client.end_task(_identified(task))
    if as_json:
        return print_json(found)
    print(f"task {printable(found['id'])} has ended")
    return None


@app.command("place", epilog="Example: headrace task place --region zj-1 --label gpu=H800 --volume qwen --room 200Gi")
def place(
    region: Region,
    label: Annotated[list[str] | None, typer.Option(help="A node with this label, as KEY=VALUE; may be given again.")] = None,
    volume: Annotated[list[str] | None, typer.Option(help="A node that holds this, if there is one; may be given again.")] = None,
    room: Annotated[str, typer.Option(help="Free in its cache at least, such as 200Gi.")] = "0",
    as_json: Json = False,
) -> None:
    """Name the node on which a task had best run, for schedulers."""
    from headrace.cli.accelerations import key_and_value

    wanted = {"region": region, "labels": dict(map(key_and_value, label or [])), "volumes": volume or [], "room_bytes": parse_bytes("room", room)}
    with control() as client:
        found = client.place_task(wanted)
    if as_json:
        return print_json(found)
    print(printable(f"{found['name']}  {found['node']}"))
    return None


@app.command("attach", epilog="Example: headrace task attach --region zj-1 --mount qwen --pid 4711")
def attach(
    region: Annotated[str | None, typer.Option(help="Region, for a new task.")] = None,
    mount: Annotated[
        list[str] | None, typer.Option(help="VOLUME[@VERSION][:PATH] of a new task; may be given again. Nothing is mounted here.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Take over the lease of this task instead; mounts that a node has for it end.")] = None,
    follow: Follow = False,
    name: Name = None,
    pid: Annotated[int | None, typer.Option(min=1, help="Until this process ends.")] = None,
    as_json: Json = False,
) -> None:
    """Hold the lease of a task that another scheduler runs, in the foreground, until a signal or until a process ends. Then the task ends."""
    if not (mount and region) if task is None else mount or region or name or follow:
        raise UsageError("bad-setting", "task: give either --task alone, or what a new one is: --region and --mount")
    ended = _watching(pid)
    with control() as client:
        held = (
            client.attach_task(_identified(task), _LASTS_SECONDS)
            if task is not None
            else _started(client, str(region), mount or [], follow=follow, name=name)
        )
        if as_json:
            print_json(held)
        else:
            print(held["id"])
        sys.stdout.flush()
        _hold(client, held, ended)


def _identified(task: str) -> str:
    if not task:
        raise UsageError("bad-setting", "task: its ID is empty; give one that `headrace task ls` shows")
    return task


def _started(client: ControlClient, region: str, mounts: list[str], *, follow: bool, name: str | None) -> dict[str, Any]:
    said = [mount_of(text, follow=follow) for text in mounts]
    for one in said:
        version = f"-{one['version']}" if "version" in one else ""
        one["path"] = one["path"] or f"/mnt/{one['volume']}{version}"
    task = {"region": region, "lasts_seconds": _LASTS_SECONDS, "mounts": said} | ({"name": name} if name else {})
    return client.create_task(task, secrets.token_hex(16))


def _hold(client: ControlClient, held: dict[str, Any], ended: Callable[[], bool]) -> None:
    """Renews the lease until it should end, and then ends the task."""
    from headrace.client import ControlFailure

    due, silent = time.monotonic() + _BEAT_SECONDS, False
    with noticing() as interruption:
        while not interruption.wait(_LOOK_SECONDS) and not ended():
            if time.monotonic() < due:
                continue
            due = time.monotonic() + _BEAT_SECONDS
            try:
                client.renew_task(held["id"], held["lease"])
                silent = False
            except ControlFailure as failure:
                if failure.code in ("lease-ended", "stale-lease", "not-found"):
                    show.error(failure)
                    raise typer.Exit(Exit.FAILED) from None
                due = time.monotonic() + _RETRY_SECONDS
                if not silent:
                    print(f"warning: the lease is not renewed: {failure.message}; trying on", file=sys.stderr)
                silent = True
        client.end_task(held["id"], held["lease"])


def _watching(pid: int | None) -> Callable[[], bool]:
    """Asks whether a process has ended; None never does."""
    if pid is None:
        return lambda: False
    try:
        watched = select.poll()
        watched.register(os.pidfd_open(pid), select.POLLIN)
    except OSError as error:
        raise NotFound("unknown", f"pid: there is no process {pid} ({error.strerror}); give one that runs") from None
    return lambda: bool(watched.poll(0))


def _shown(mounted: dict[str, Any]) -> str:
    version = f"@v{mounted['version']}" if mounted["version"] else ""
    return f"{mounted['volume']}{version}"


def _pulled(pull: dict[str, Any] | None) -> str:
    if pull is None or not pull["bytes_total"] or pull["state"] != "syncing":
        return ""
    return f", {show.size(pull['bytes'])} of {show.size(pull['bytes_total'])} held"
