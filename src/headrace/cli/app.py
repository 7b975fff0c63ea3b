"""The commands.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found or not mounted, 4 credentials or permission, 5 origin unreachable,
6 busy, 7 cache directory, 126 and 127 as shells say that a task's command can't be executed or is not found, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from headrace.cli import (
    accelerations,
    control,
    doctor,
    logs,
    mounting,
    node,
    nodes,
    order,
    regions,
    show,
    survey,
    tasks,
    tokens,
    usage,
    volumes,
    warmups,
)
from headrace.cli.place import place
from headrace.cli.reach import Directory, Json, print_json, running
from headrace.errors import Exit, UsageError
from headrace.node.resolver import captured
from headrace.printable import printable

# The node counts them in 32 bits.
_LISTED_MAX = 2**32 - 1

OfRegion = Annotated[str | None, typer.Option("--region", help="Of a volume in this region, by the control plane.")]
Inside = Annotated[list[str], typer.Argument(help="Files or directories in a mount.")]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # brackets, as in s3://BUCKET[/PREFIX], mean themselves
    help="Models in S3-compatible object storage, as if on the local disk.",
)
cache_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What is cached on this machine.")
app.add_typer(cache_app, name="cache")
app.add_typer(order.app, name="order")
app.add_typer(control.app, name="control")
app.add_typer(volumes.app, name="volume")
app.add_typer(regions.app, name="region")
app.add_typer(tasks.app, name="task")
app.add_typer(tokens.app, name="token")
app.add_typer(warmups.app, name="warmup")
node.app.add_typer(nodes.app)
app.add_typer(node.app, name="node")
app.command(epilog="Example: headrace mount s3://models/qwen ./qwen")(mounting.mount)
app.command(epilog="Example: headrace umount ./qwen")(mounting.umount)
app.command(epilog="Example: headrace doctor s3://models/qwen")(doctor.doctor)
app.command(epilog="Example: headrace logs -f")(logs.logs)
app.command(epilog="Example: headrace up")(control.up)
app.command(epilog="Example: headrace login https://headrace.example.com:7370")(control.login)
app.command(epilog="Example: headrace accelerate qwen --region zj-1 --wait")(accelerations.accelerate)
app.command("accelerations", epilog="Example: headrace accelerations --region zj-1")(accelerations.accelerations)
app.command(epilog="Example: headrace release qwen --region zj-1")(accelerations.release)
app.command(epilog="Example: headrace versions qwen --region zj-1")(accelerations.versions)
app.command(epilog="Example: headrace usage --since 30d --volume qwen")(usage.usage)
app.command(epilog="Example: headrace events -n 20")(tokens.events)


@app.command(epilog="Example: headrace status ./qwen")
def status(directory: Annotated[str | None, typer.Argument(help="One mount only.")] = None, as_json: Json = False) -> None:
    """Mounts, snapshots, what is cached, where bytes came from."""
    if directory:
        with running(where := place(directory)) as client:
            answer = client.call("status", directory=where)
    else:
        answer = survey.everything()
    if as_json:
        print_json(answer)
    else:
        _show_survey(answer)
    if answer.get("dead") or answer.get("silent"):
        raise typer.Exit(Exit.FAILED)


def _show_survey(answer: dict[str, Any]) -> None:
    """Every node, and what none of them serves."""
    nodes = [one for one in (answer, *answer.get("others", ())) if one["node"]]
    for number, one in enumerate(nodes):
        print("\n" if number else "", end="")
        _show_status(one)
    for socket, reason in answer.get("silent", {}).items():
        print(f"warning: the node at {socket} does not answer: {reason}")
    for directory in answer.get("dead", ()):
        print(f"warning: {directory} is a dead mount: its node and keeper are gone; `headrace umount {directory}` takes it away, mounting again too")
    for directory in answer.get("elsewhere", ()):
        print(f"{directory} is mounted, by a node that is not asked here: HEADRACE_NODE names it")
    if not nodes:
        print("no node runs" if any(answer[name] for name in ("silent", "dead", "elsewhere")) else "no node runs; nothing is mounted")


def _show_status(answer: dict[str, Any]) -> None:
    node, cache, counters = answer["node"], answer["cache"], answer["counters"]
    print(f"node {node['pid']} (keeper {node['keeper_pid']}), memory {show.size(node['rss_bytes'])}")
    print(
        f"cache {show.size(cache['allocated_bytes'])} of {show.size(cache['limit_bytes'])}, "
        f"{cache['files']} files, {cache['complete_files']} complete"
    )
    if answer["control"]:
        _show_control(answer["control"])
    ratio = "—" if answer["hit_ratio"] is None else f"{100 * answer['hit_ratio']:.0f} %"
    print(f"from cache {show.size(counters['cache_hit_bytes_total'])}, from origin {show.size(counters['fetched_bytes_total'])}, hit ratio {ratio}")
    speed = answer["speed"]
    print(f"now from origin {show.size(speed['origin_bytes_per_second'])}/s, to readers {show.size(speed['read_bytes_per_second'])}/s")
    for directory in cache["directories"]:
        if directory["failed"]:
            print(f"warning: cache directory {directory['path']} is out of use: {directory['failed']}")
        elif directory["lacks"]:
            print(f"warning: cache directory {directory['path']}: {directory['lacks']}")
    for mounted in answer["mounts"]:
        print(f"\n{_mounted(mounted)}")
        print(
            f"  {mounted['files_complete']}/{mounted['files']} files, {show.size(mounted['bytes_present'])} of {show.size(mounted['bytes'])} present"
        )
        if mounted["warning"]:
            print(f"  warning: {mounted['warning']}")
        for key, reason in mounted["skipped_keys"]:
            print(f"  skipped: {key!r}: {reason}")
    for event in answer["events"]:
        print(f"  {event['kind']}: {event['message']}")


def _mounted(mounted: dict[str, Any]) -> str:
    """What is mounted where; a task's mount is seen by the task alone."""
    task = mounted.get("task")
    if task:
        follows = " (follows)" if task["follow"] else ""
        return printable(f"{task['path']}  {task['volume']}@v{task['version']}{follows}  in the task {task['id']} of the user {task['user']}")
    return f"{mounted['directory']}  {mounted['source']}  snapshot {mounted['snapshot']}{' (pinned)' if mounted['pinned'] else ''}"


def _show_control(control: dict[str, Any]) -> None:
    if control["node_id"]:
        word = "heard" if control["heard"] else "not heard"
        print(f"control plane {control['url']} ({word}): region {control['region']}, node {control['node_id']}")
    if control.get("holding"):
        print(f"  holds {control['complete']} of {control['holding']} accelerations whole, {control['failing']} with an error")
    if control.get("tasks") or control.get("tasks_starting"):
        print(f"  has mounts for {show.count(control['tasks'], 'task')}, and {control['tasks_starting']} about to start")
    if control["error"]:
        print(f"  warning: {control['error']}")


@app.command(epilog="Example: headrace refresh ./qwen   (or a volume: headrace refresh qwen --region zj-1 --wait)")
def refresh(
    directory: Annotated[str, typer.Argument(help="The mount point; with --region, the name of a volume.")],
    region: OfRegion = None,
    at_once: Annotated[bool, typer.Option("--at-once", help="Of a volume: current when it is published, instead of when it is held.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Of a volume: only tell what would change.")] = False,
    every: Annotated[str | None, typer.Option(help="Of a volume: by itself from now on, so often (6h); 0 ends that.")] = None,
    wait: accelerations.Wait = False,
    as_json: Json = False,
) -> None:
    """回源: list the bucket again, publish what changed, and switch this mount to it; or a volume, in a region."""
    if region is not None and dry_run:
        return accelerations.compare(directory, region, as_json=as_json)
    if region is not None:
        return accelerations.refresh(directory, region, at_once=at_once, wait=wait, every=every, as_json=as_json)
    if at_once or wait or every or dry_run:
        raise UsageError("bad-setting", "--at-once, --dry-run, --every and --wait are for a volume; name its region with --region")
    progress = show.Progress(as_json)
    with running(where := place(directory)) as client:
        answer = client.call("refresh", progress, directory=where)
    progress.done()
    if as_json:
        return print_json(answer)
    show.change(answer, f"snapshot {answer['snapshot']}")
    if answer["pinned"]:
        print("this mount is pinned and stays as it is")
    return None


@app.command(epilog="Example: headrace snapshots ./qwen")
def snapshots(directory: Directory, as_json: Json = False) -> None:
    """Versions kept, and how much of each can still be read."""
    with running(where := place(directory)) as client:
        answer = client.call("snapshots", directory=where)
    if as_json:
        return print_json(answer)
    for version in answer["versions"]:
        marks = [
            name
            for name, is_it in (
                ("current", version["id"] == answer["current"]),
                ("mounted", version["mounted"]),
            )
            if is_it
        ]
        print(
            f"{version['id']:>5}  {version['files']} files  {show.size(version['bytes'])}  cached {show.size(version['bytes_present'])}"
            f"  readable: {version['readable']}  {' '.join(marks)}"
        )
    return None


@app.command(epilog="Example: headrace rollback ./qwen v1   (or a volume: headrace rollback qwen v1 --region zj-1)")
def rollback(
    directory: Annotated[str, typer.Argument(help="The mount point; with --region, the name of a volume.")],
    snapshot: Annotated[str, typer.Argument(help="The version to go back to.")],
    region: OfRegion = None,
    as_json: Json = False,
) -> None:
    """Switch a mount, or a volume in a region, to a version held; at once."""
    if region is not None:
        return accelerations.roll_back(directory, region, snapshot, as_json=as_json)
    with running(where := place(directory)) as client:
        answer = client.call("rollback", directory=where, snapshot=snapshot)
    if as_json:
        return print_json(answer)
    print(f"{answer['directory']} now shows {answer['snapshot']}")
    return None


@app.command(epilog="Example: headrace warm ./qwen ./qwen2/model-00001-of-00008.safetensors")
def warm(
    paths: Annotated[list[str], typer.Argument(help="Mount points, or files and directories in one.")],
    include: Annotated[list[str] | None, typer.Option(help="Only files that match; may be given again.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="No files that match; may be given again.")] = None,
    as_json: Json = False,
) -> None:
    """Pull into the cache ahead of use. Ctrl-C is safe; run it again and it goes on.

    A pattern such as '*.safetensors' is compared with names, one with a slash with paths in the mount.
    """
    progress = show.Progress(as_json)
    places = [place(p) for p in paths]
    with running(places[0]) as client:
        answer = client.call("warm", progress, paths=places, include=include or [], exclude=exclude or [])
    progress.done()
    if as_json:
        print_json(answer)
    else:
        print(f"{answer['files']}/{answer['files_total']} files, {show.size(answer['bytes'])} held, {show.size(answer['origin_bytes'])} fetched")
    for key, message in answer["failed"]:
        print(f"not held: {key}: {message}", file=sys.stderr)
    if answer["failed"]:
        raise typer.Exit(Exit.FAILED)


@cache_app.command("ls", epilog="Example: headrace cache ls --limit 20")
def cache_ls(limit: Annotated[int, typer.Option(min=1, max=_LISTED_MAX, help="At most this many.")] = 1000, as_json: Json = False) -> None:
    """What is cached."""
    with running() as client:
        entries = client.call("cache.list", limit=limit)
    if as_json:
        return print_json(entries)
    for entry in entries:
        marks = " ".join(name for name in ("complete", "pinned") if entry[name])
        print(f"{entry['id']}  {show.size(entry['allocated']):>10}  s3://{entry['bucket']}/{entry['key']}  {marks}")
    return None


@cache_app.command("evict", epilog="Example: headrace cache evict ./qwen/old")
def cache_evict(
    paths: Annotated[list[str] | None, typer.Argument(help="Files or directories in a mount.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything that is not pinned.")] = False,
    as_json: Json = False,
) -> None:
    """Drop from the cache."""
    if not paths and not everything:
        raise UsageError("bad-setting", "paths: give files or directories in a mount, or --all")
    places = [place(p) for p in paths or []]
    with running(places[0] if places else None) as client:
        answer = client.call("cache.evict", paths=places, all=everything)
    if as_json:
        return print_json(answer)
    print(f"{show.size(answer['bytes'])} freed")
    return None


@cache_app.command("pin", epilog="Example: headrace cache pin ./qwen/model.safetensors")
def cache_pin(paths: Inside, as_json: Json = False) -> None:
    """Never evict these."""
    _pin(paths, True, as_json)


@cache_app.command("unpin", epilog="Example: headrace cache unpin ./qwen/model.safetensors")
def cache_unpin(paths: Inside, as_json: Json = False) -> None:
    """Let these be evicted again."""
    _pin(paths, False, as_json)


def _pin(paths: list[str], pinned: bool, as_json: bool) -> None:
    places = [place(p) for p in paths]
    with running(places[0]) as client:
        answer = client.call("cache.pin", paths=places, pinned=pinned)
    if as_json:
        return print_json(answer)
    print(f"{answer['files']} files {'pinned' if pinned else 'unpinned'}")
    return None


@cache_app.command("verify", epilog="Example: headrace cache verify")
def cache_verify(as_json: Json = False) -> None:
    """Check every digest; what is damaged is dropped and fetched again when asked for."""
    progress = show.Progress(as_json)
    with running() as client:
        answer = client.call("cache.verify", progress)
    progress.done()
    if as_json:
        print_json(answer)
    else:
        print(f"{answer['files']} files, {show.size(answer['bytes'])} checked, {answer['bad_blocks']} damaged blocks dropped")
    for directory, reason in answer["failed"].items():
        print(f"{directory} is out of use until the node restarts: {reason}", file=sys.stderr)
    if answer["bad_blocks"] or answer["failed"]:
        raise typer.Exit(Exit.FAILED)


@app.command(epilog="Example: AWS_PROFILE=models headrace credentials ./qwen")
def credentials(directory: Directory, as_json: Json = False) -> None:
    """Give a living mount the credentials of this command's environment."""
    with running(where := place(directory)) as client:
        answer = client.call("credentials", directory=where, environment=captured(dict(os.environ)))
    if as_json:
        return print_json(answer)
    print("replaced" + ("" if answer["expires"] is None else f"; they expire at {answer['expires']:.0f} (Unix time)"))
    return None


@app.command(epilog="Example: headrace metrics > /var/lib/node_exporter/headrace.prom")
def metrics() -> None:
    """Counters as Prometheus text."""
    with running() as client:
        print(client.call("metrics"), end="")
