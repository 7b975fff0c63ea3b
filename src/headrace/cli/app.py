"""The commands.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found or not mounted, 4 credentials or permission, 5 origin unreachable,
6 busy, 7 cache directory, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace import settings as configuration
from headrace.cli import show
from headrace.errors import Exit, HeadraceError, MountFailure, NotFound, UsageError
from headrace.node.client import Client, connect, connect_or_start
from headrace.node.resolver import captured

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Models in S3-compatible object storage, as if on the local disk.",
)
cache_app = typer.Typer(no_args_is_help=True, help="What is cached on this machine.")
app.add_typer(cache_app, name="cache")

Directory = Annotated[str, typer.Argument(help="The mount point.")]
Json = Annotated[bool, typer.Option("--json", help="Answer for programs.")]


def _print(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _running() -> Client:
    client = connect(configuration.load())
    if client is None:
        raise NotFound(
            "not-mounted",
            "node: none runs, so nothing is mounted; mount something first (`headrace mount s3://BUCKET/PREFIX DIR`)",
        )
    return client


@app.command(epilog="Example: headrace mount s3://models/qwen ./qwen")
def mount(
    source: Annotated[str, typer.Argument(help="s3://BUCKET[/PREFIX]")],
    directory: Directory,
    snapshot: Annotated[str | None, typer.Option(help="Mount a version held (v3, or current) without listing.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Endpoint address; default as AWS tools find it.")] = None,
    region: Annotated[str | None, typer.Option(help="Region; default as AWS tools find it.")] = None,
    addressing: Annotated[str | None, typer.Option(help="path or virtual.")] = None,
    anonymous: Annotated[bool, typer.Option(help="Sign nothing: for public buckets.")] = False,
    pin: Annotated[bool, typer.Option(help="Never switch to another snapshot.")] = False,
    allow_other: Annotated[bool, typer.Option(help="Let other users read.")] = False,
    uid: Annotated[int | None, typer.Option(help="Owner of the files.")] = None,
    gid: Annotated[int | None, typer.Option(help="Group of the files.")] = None,
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
    options = {
        "cache_dir": cache_dir,
        "cache_size": cache_size,
        "cache_reserve": cache_reserve,
        "memory": memory,
    }
    settings = configuration.load(options)
    target = Path(os.path.abspath(directory))
    created = _prepare(target)
    look = {
        "uid": uid, "gid": gid, "file_mode": _mode("file mode", file_mode), "dir_mode": _mode("dir mode", dir_mode),
        "allow_other": allow_other, "passthrough": passthrough,
    }  # fmt: skip
    origin = {"endpoint": endpoint, "region": region, "addressing": addressing, "anonymous": anonymous}
    progress = show.Progress(as_json)
    try:
        with connect_or_start(settings) as client:
            result = client.call(
                "mount", progress, source=source, directory=str(target), environment=captured(dict(os.environ)),
                origin={k: v for k, v in origin.items() if v}, look=look, pin=pin, snapshot=snapshot,
            )  # fmt: skip
        os.stat(target / ".")
    except BaseException:
        if created:
            with contextlib.suppress(OSError):
                target.rmdir()
        raise
    finally:
        progress.done()
    if as_json:
        return _print(result)
    change = result["change"]
    fresh = f" (new {change['new']}, changed {change['changed']}, gone {change['gone']})" if change.get("published") else ""
    print(f"{source} is mounted at {target}: snapshot {result['snapshot']}, {result['files']} files, {show.size(result['bytes'])}{fresh}")
    if result["skipped"]:
        print(
            f"{result['skipped']} keys can't be paths and were skipped; `headrace status {target}` lists them",
            file=sys.stderr,
        )
    return None


def _mode(field: str, text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise UsageError("bad-setting", f"{field}: {text!r} is not an octal mode such as 0444") from None


def _prepare(target: Path) -> bool:
    """Makes the directory if need be, and takes a dead mount away; True if it was made."""
    try:
        entries = os.listdir(target)
    except FileNotFoundError:
        target.mkdir(parents=True)
        return True
    except NotADirectoryError:
        raise MountFailure("mount-failed", f"directory: {target} is a file; give a directory") from None
    except OSError as error:
        if error.errno != 107:  # ENOTCONN: keeper and node of that mount have died together
            raise MountFailure("mount-failed", f"directory: {target}: {error.strerror}") from None
        import subprocess

        subprocess.run(["umount", "-l", str(target)], check=False, capture_output=True)
        print(f"a dead mount at {target} was taken away", file=sys.stderr)
        entries = os.listdir(target)
    if os.path.ismount(target):
        raise MountFailure(
            "mount-failed",
            f"directory: {target} is already mounted; unmount it first (`headrace umount {target}`)",
        )
    if entries:
        raise MountFailure("mount-failed", f"directory: {target} is not empty; give an empty directory")
    return False


@app.command()
def umount(
    directory: Directory,
    lazy: Annotated[bool, typer.Option(help="Detach now, end when the last user is gone.")] = False,
) -> None:
    """Unmount."""
    with _running() as client:
        client.call("umount", directory=os.path.abspath(directory), lazy=lazy)


@app.command()
def status(directory: Annotated[str | None, typer.Argument(help="One mount only.")] = None, as_json: Json = False) -> None:
    """Mounts, snapshots, what is cached, where bytes came from."""
    client = connect(configuration.load())
    if client is None:
        if as_json:
            return _print({"node": None, "mounts": []})
        print("no node runs; nothing is mounted")
        return None
    with client:
        answer = client.call("status", directory=os.path.abspath(directory) if directory else None)
    if as_json:
        return _print(answer)
    _show_status(answer)
    return None


def _show_status(answer: dict[str, Any]) -> None:
    node, cache, counters = answer["node"], answer["cache"], answer["counters"]
    print(f"node {node['pid']} (keeper {node['keeper_pid']}), memory {show.size(node['rss_bytes'])}")
    print(
        f"cache {show.size(cache['allocated_bytes'])} of {show.size(cache['limit_bytes'])}, "
        f"{cache['files']} files, {cache['complete_files']} complete"
    )
    ratio = "—" if answer["hit_ratio"] is None else f"{100 * answer['hit_ratio']:.0f} %"
    print(f"from cache {show.size(counters['cache_hit_bytes_total'])}, from origin {show.size(counters['fetched_bytes_total'])}, hit ratio {ratio}")
    for directory in cache["directories"]:
        if directory["failed"]:
            print(f"warning: cache directory {directory['path']} is out of use: {directory['failed']}")
    for mounted in answer["mounts"]:
        print(f"\n{mounted['directory']}  {mounted['source']}  snapshot {mounted['snapshot']}{' (pinned)' if mounted['pinned'] else ''}")
        print(
            f"  {mounted['files_complete']}/{mounted['files']} files, {show.size(mounted['bytes_present'])} of {show.size(mounted['bytes'])} present"
        )
        if mounted["warning"]:
            print(f"  warning: {mounted['warning']}")
        for key, reason in mounted["skipped_keys"]:
            print(f"  skipped: {key!r}: {reason}")
    for event in answer["events"]:
        print(f"  {event['kind']}: {event['message']}")


@app.command()
def refresh(directory: Directory, as_json: Json = False) -> None:
    """回源: list the bucket again, publish what changed, and switch this mount to it."""
    progress = show.Progress(as_json)
    with _running() as client:
        answer = client.call("refresh", progress, directory=os.path.abspath(directory))
    progress.done()
    if as_json:
        return _print(answer)
    for name, sign in (("new", "+"), ("changed", "~"), ("gone", "-")):
        for path in answer[f"{name}_paths"]:
            print(f"{sign} {path}")
        hidden = answer[name] - len(answer[f"{name}_paths"])
        if hidden > 0:
            print(f"{sign} … and {hidden} more")
    print(f"new {answer['new']}, changed {answer['changed']}, gone {answer['gone']}; snapshot {answer['snapshot']}")
    if answer["pinned"]:
        print("this mount is pinned and stays as it is")
    return None


@app.command()
def snapshots(directory: Directory, as_json: Json = False) -> None:
    """Versions kept, and how much of each can still be read."""
    with _running() as client:
        answer = client.call("snapshots", directory=os.path.abspath(directory))
    if as_json:
        return _print(answer)
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


@app.command()
def rollback(directory: Directory, snapshot: Annotated[str, typer.Argument(help="The version to go back to.")]) -> None:
    """Switch a mount to a version held; at once."""
    with _running() as client:
        answer = client.call("rollback", directory=os.path.abspath(directory), snapshot=snapshot)
    print(f"{answer['directory']} now shows {answer['snapshot']}")


@app.command(epilog="Example: headrace warm ./qwen ./qwen2/model-00001-of-00008.safetensors")
def warm(
    paths: Annotated[list[str], typer.Argument(help="Mount points, or files and directories in one.")],
    as_json: Json = False,
) -> None:
    """Pull into the cache ahead of use. Ctrl-C is safe; run it again and it goes on."""
    progress = show.Progress(as_json)
    with _running() as client:
        answer = client.call("warm", progress, paths=[os.path.abspath(p) for p in paths])
    progress.done()
    if as_json:
        _print(answer)
    else:
        print(f"{answer['files']}/{answer['files_total']} files, {show.size(answer['bytes'])} held, {show.size(answer['origin_bytes'])} fetched")
    for key, message in answer["failed"]:
        print(f"not held: {key}: {message}", file=sys.stderr)
    if answer["failed"]:
        raise typer.Exit(Exit.FAILED)


@cache_app.command("ls")
def cache_ls(limit: Annotated[int, typer.Option(help="At most this many.")] = 1000, as_json: Json = False) -> None:
    """What is cached."""
    with _running() as client:
        entries = client.call("cache.list", limit=limit)
    if as_json:
        return _print(entries)
    for entry in entries:
        marks = " ".join(name for name in ("complete", "pinned") if entry[name])
        print(f"{entry['id']}  {show.size(entry['allocated']):>10}  s3://{entry['bucket']}/{entry['key']}  {marks}")
    return None


@cache_app.command("evict")
def cache_evict(
    paths: Annotated[list[str] | None, typer.Argument(help="Files or directories in a mount.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything that is not pinned.")] = False,
) -> None:
    """Drop from the cache."""
    if not paths and not everything:
        raise UsageError("bad-setting", "paths: give files or directories in a mount, or --all")
    with _running() as client:
        answer = client.call("cache.evict", paths=[os.path.abspath(p) for p in paths or []], all=everything)
    print(f"{show.size(answer['bytes'])} freed")


@cache_app.command("pin")
def cache_pin(paths: Annotated[list[str], typer.Argument(help="Files or directories in a mount.")]) -> None:
    """Never evict these."""
    _pin(paths, True)


@cache_app.command("unpin")
def cache_unpin(paths: Annotated[list[str], typer.Argument(help="Files or directories in a mount.")]) -> None:
    """Let these be evicted again."""
    _pin(paths, False)


def _pin(paths: list[str], pinned: bool) -> None:
    with _running() as client:
        answer = client.call("cache.pin", paths=[os.path.abspath(p) for p in paths], pinned=pinned)
    print(f"{answer['files']} files {'pinned' if pinned else 'unpinned'}")


@cache_app.command("verify")
def cache_verify(as_json: Json = False) -> None:
    """Check every digest; what is damaged is dropped and fetched again when asked for."""
    progress = show.Progress(as_json)
    with _running() as client:
        answer = client.call("cache.verify", progress)
    progress.done()
    if as_json:
        _print(answer)
    else:
        print(f"{answer['files']} files, {show.size(answer['bytes'])} checked, {answer['bad_blocks']} damaged blocks dropped")
    if answer["bad_blocks"]:
        raise typer.Exit(Exit.FAILED)


@app.command()
def credentials(directory: Directory) -> None:
    """Give a living mount the credentials of this command's environment."""
    with _running() as client:
        answer = client.call("credentials", directory=os.path.abspath(directory), environment=captured(dict(os.environ)))
    print("replaced" + ("" if answer["expires"] is None else f"; they expire at {answer['expires']:.0f} (Unix time)"))


@app.command()
def metrics() -> None:
    """Counters as Prometheus text."""
    with _running() as client:
        print(client.call("metrics"), end="")


@app.command()
def logs(lines: Annotated[int, typer.Option("-n", help="How many.")] = 100) -> None:
    """The node's log."""
    path = Path(configuration.load().log_file)
    if not path.exists():
        raise NotFound("unknown", f"log: {path} does not exist; under systemd use `journalctl -u headrace-node`")
    with path.open(errors="replace") as file:
        from collections import deque

        sys.stdout.writelines(deque(file, maxlen=lines))


def main() -> None:
    """The entry point; failures are one message and an exit code."""
    try:
        app(standalone_mode=True)
    except HeadraceError as failure:
        show.error(failure)
        sys.exit(failure.exit_code)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
