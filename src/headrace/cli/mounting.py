"""`headrace mount` and `headrace umount`; and the request behind them, which fstab and the configuration file make too."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace import settings as configuration
from headrace.cli import mount_point, show
from headrace.cli.agreement import Options, node_for
from headrace.cli.interruption import Interruption, noticing
from headrace.cli.place import place
from headrace.cli.reach import Directory, Json, print_json, running
from headrace.errors import MountFailure, NodeFailure, UsageError
from headrace.node import mountinfo
from headrace.node.client import Client, connect
from headrace.node.resolver import captured
from headrace.node.volumes import parse_uri

_LOOK_SECONDS = 0.5
# Of users and groups; the one above it means none.
ID_MAX = 2**32 - 2
# How long a node may need to take a mount back of which it could tell nobody.
_TAKEN_BACK_SECONDS = 2.0


@dataclass
class MountRequest:
    """One mount, as it is asked of the node."""

    source: str
    directory: str
    snapshot: str | None = None
    pin: bool = False
    origin: dict[str, Any] = field(default_factory=dict)  # endpoint, region, addressing, anonymous, profile
    look: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=lambda: captured(dict(os.environ)))

    def ask(self, client: Client, progress: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
        """Mounts; the directory is made if need be, and taken away again when the mount fails."""
        target = Path(place(self.directory))
        made = prepare(target)
        look = {"uid": None, "gid": None, "file_mode": 0o444, "dir_mode": 0o555, "allow_other": False, "passthrough": True}
        try:
            result = client.call(
                "mount", progress, source=self.source, directory=str(target), environment=self.environment,
                origin={k: v for k, v in self.origin.items() if v}, look=look | self.look, pin=self.pin, snapshot=self.snapshot,
            )  # fmt: skip
            os.stat(target / ".")
        except BaseException:
            mount_point.take_away(made)
            raise
        return dict(result)


def mount(
    source: Annotated[str, typer.Argument(help="s3://BUCKET[/PREFIX]")],
    directory: Directory,
    snapshot: Annotated[str | None, typer.Option(help="Mount a version held (v3, or current) without listing.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Endpoint address; default as AWS tools find it.")] = None,
    region: Annotated[str | None, typer.Option(help="Region; default as AWS tools find it.")] = None,
    addressing: Annotated[str | None, typer.Option(help="path or virtual.")] = None,
    anonymous: Annotated[bool, typer.Option(help="Sign nothing: for public buckets.")] = False,
    pin: Annotated[bool, typer.Option(help="Never switch to another snapshot.")] = False,
    foreground: Annotated[bool, typer.Option(help="Stay until Ctrl-C or SIGTERM, then unmount.")] = False,
    allow_other: Annotated[bool, typer.Option(help="Let other users read.")] = False,
    uid: Annotated[int | None, typer.Option(min=0, max=ID_MAX, help="Owner of the files.")] = None,
    gid: Annotated[int | None, typer.Option(min=0, max=ID_MAX, help="Group of the files.")] = None,
    file_mode: Annotated[str, typer.Option(help="Permission bits of files.")] = "0444",
    dir_mode: Annotated[str, typer.Option(help="Permission bits of directories.")] = "0555",
    passthrough: Annotated[bool, typer.Option(help="Let the kernel read complete files itself.")] = True,
    cache_dir: Annotated[str | None, typer.Option(help="Cache directories: PATH[=SIZE][:PATH[=SIZE]…]")] = None,
    cache_size: Annotated[str | None, typer.Option(help="Size of the cache, such as 200Gi.")] = None,
    cache_reserve: Annotated[str | None, typer.Option(help="Free space to leave.")] = None,
    memory: Annotated[str | None, typer.Option(help="Budget for buffers, such as 512Mi.")] = None,
    as_json: Json = False,
) -> None:
    """Mount a bucket, or a directory of it, read-only."""
    parse_uri(source)  # before a node is started for nothing
    options = {"cache_dir": cache_dir, "cache_size": cache_size, "cache_reserve": cache_reserve, "memory": memory}
    look = {
        "uid": uid, "gid": gid, "file_mode": mode("file mode", file_mode), "dir_mode": mode("dir mode", dir_mode),
        "allow_other": allow_other, "passthrough": passthrough,
    }  # fmt: skip
    origin = {"endpoint": endpoint, "region": region, "addressing": addressing, "anonymous": anonymous}
    request = MountRequest(source, place(directory), snapshot, pin, origin, look)
    carry_out(request, options, print_json if as_json else partial(tell, request), show.Progress(as_json), foreground)


def carry_out(
    request: MountRequest, options: Options, report: Callable[[dict[str, Any]], None], progress: show.Progress, foreground: bool = False
) -> None:
    """Mounts and reports it; in the `foreground`, stays until a signal comes or somebody else unmounts.

    A signal that comes before that leaves nothing mounted, and raises KeyboardInterrupt where staying was not asked for.
    """
    client = node_for(options)
    with noticing() as interruption:
        try:
            result = _ask(client, request, progress, interruption)
        finally:
            progress.done()
        if result is not None:
            if not interruption:
                report(result)
            while foreground and not interruption.wait(_LOOK_SECONDS) and mountinfo.mounted_at(request.directory):
                pass
            if interruption:
                _unmount(configuration.load(options), request.directory)
    if interruption and not foreground:
        raise KeyboardInterrupt


def _ask(client: Client, request: MountRequest, progress: show.Progress, interruption: Interruption) -> dict[str, Any] | None:
    """Mounts; None when a signal came before the node's answer."""
    with client, interruption.hanging_up(client):
        try:
            return request.ask(client, progress)
        except NodeFailure:
            if not interruption:
                raise
            client.wait_closed(_TAKEN_BACK_SECONDS)
            return None


def tell(request: MountRequest, result: dict[str, Any]) -> None:
    """What a person wants to know of a new mount."""
    change = result["change"]
    fresh = f" (new {change['new']}, changed {change['changed']}, gone {change['gone']})" if change.get("published") else ""
    print(
        f"{request.source} is mounted at {request.directory}: snapshot {result['snapshot']}, "
        f"{result['files']} files, {show.size(result['bytes'])}{fresh}",
        flush=True,
    )
    if result["skipped"]:
        print(f"{result['skipped']} keys can't be paths and were skipped; `headrace status {request.directory}` lists them", file=sys.stderr)


def mode(field_name: str, text: str) -> int:
    """Permission bits from octal text."""
    try:
        bits = int(text, 8)
    except ValueError:
        raise UsageError("bad-setting", f"{field_name}: {text!r} is not an octal mode such as 0444") from None
    if not 0 <= bits <= 0o777:
        raise UsageError("bad-setting", f"{field_name}: {text!r} has more than the nine permission bits")
    return bits


def prepare(target: Path) -> list[Path]:
    """Makes the directory if need be, and takes a dead mount away; gives the directories that were made."""
    try:
        entries = os.listdir(target)
    except FileNotFoundError:
        return mount_point.make(target)
    except NotADirectoryError:
        raise MountFailure("mount-failed", f"directory: {target} is a file; give a directory") from None
    except OSError as error:
        if error.errno != errno.ENOTCONN:  # keeper and node of that mount have died together
            raise MountFailure("mount-failed", f"directory: {target}: {error.strerror}; give a directory that you may read") from None
        _take_away(target)
        entries = os.listdir(target)
    if os.path.ismount(target):
        raise MountFailure("mount-failed", f"directory: {target} is already mounted; unmount it first (`headrace umount {target}`)")
    if entries:
        raise MountFailure("mount-failed", f"directory: {target} is not empty; give an empty directory")
    return []


def _take_away(target: Path) -> None:
    command = ["umount", "-l", str(target)] if os.geteuid() == 0 else ["fusermount3", "-uz", "--", str(target)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        raise MountFailure("mount-failed", f"directory: a dead mount at {target} can't be taken away: {done.stderr.strip()}")
    print(f"a dead mount at {target} was taken away", file=sys.stderr)


def _unmount(settings: configuration.Settings, directory: str) -> None:
    client = connect(settings)
    if client is None:
        raise NodeFailure("node-unreachable", f"node: it is gone, so {directory} can't be unmounted in good order; `umount -l {directory}` does it")
    with client:
        client.call("umount", directory=directory, lazy=False)


def umount(
    directory: Directory,
    lazy: Annotated[bool, typer.Option(help="Detach now, end when the last user is gone.")] = False,
    as_json: Json = False,
) -> None:
    """Unmount. A dead mount, whose node and keeper are gone, is taken away."""
    where = place(directory)
    mounted = mountinfo.mounted_at(where)
    if mounted and mounted.fstype == mountinfo.FSTYPE and mountinfo.is_dead(where):
        _take_away(Path(where))
        answer = {"directory": where, "dead": True}
    else:
        with running(where) as client:
            answer = client.call("umount", directory=where, lazy=lazy)
    if as_json:
        print_json(answer)
