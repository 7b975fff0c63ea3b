"""`headrace warmup`."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli import show
from headrace.cli.accelerations import Region, Volume, key_and_value, selection_of
from headrace.cli.logged_in import control
from headrace.cli.reach import Json, print_json
from headrace.cli.tables import print_table
from headrace.errors import Exit
from headrace.printable import printable

if TYPE_CHECKING:
    from headrace.client import ControlClient

_LOOK_SECONDS = 0.5

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Pull data to nodes of a region ahead of use (预热).")
Identifier = Annotated[str, typer.Argument(help="Id of a warm-up.")]


@app.command(epilog="Example: headrace warmup start qwen --region zj-1 --label gpu=H800 --include '*.safetensors' --wait")
def start(
    volume: Volume,
    region: Region,
    version: Annotated[str | None, typer.Option(help="A version (v3) or label; the current one without it.")] = None,
    include: Annotated[list[str] | None, typer.Option(help="Only files that match; may be given again.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="No files that match; may be given again.")] = None,
    node: Annotated[list[str] | None, typer.Option(help="Id of a node; may be given again. All of the region without it.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Nodes with this label, as KEY=VALUE; may be given again.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is done, with progress. Ctrl-C stops the waiting only.")] = False,
    as_json: Json = False,
) -> None:
    """Begin to pull data of a volume to nodes of a region."""
    selection = selection_of(include, exclude, metadata_only=False)
    said = {"version": version, "selection": selection, "nodes": node or [], "labels": dict(map(key_and_value, label or []))}
    with control() as client:
        shown = client.start_warmup(volume, region, said, secrets.token_hex(16))
        if wait:
            shown = _waited(client, shown, quiet=as_json)
    _tell(shown, as_json=as_json)


@app.command("ls", epilog="Example: headrace warmup ls --region zj-1")
def ls(region: Annotated[str | None, typer.Option(help="Of one region only.")] = None, as_json: Json = False) -> None:
    """Warm-ups, newest first."""
    with control() as client:
        found = list(client.warmups(**({"region": region} if region else {})))
    if as_json:
        return print_json(found)
    rows = [
        (one["id"], one["volume"], one["region"], f"v{one['version']}", one["end"] or one["state"], len(one["nodes"]), _held(one)) for one in found
    ]
    print_table(("ID", "VOLUME", "REGION", "VERSION", "STATE", "NODES", "PULLED"), rows, "nothing was warmed lately")
    return None


@app.command("show", epilog="Example: headrace warmup show 01m8kgt37h6skejybbnhjhnhea")
def show_one(identifier: Identifier, as_json: Json = False) -> None:
    """One warm-up, by node."""
    with control() as client:
        shown = client.warmup(identifier)
    if as_json:
        return print_json(shown)
    print(_line(shown))
    rows = [(one["node_id"], _held(one), "complete" if one["complete"] else "", printable(one["error"])) for one in shown["nodes"]]
    print_table(("NODE", "PULLED", "", "ERROR"), rows, "it has no nodes any more")
    return None


@app.command(epilog="Example: headrace warmup cancel 01m8kgt37h6skejybbnhjhnhea")
def cancel(identifier: Identifier, as_json: Json = False) -> None:
    """End a warm-up. What was pulled stays cached."""
    with control() as client:
        shown = client.cancel_warmup(identifier)
    if as_json:
        return print_json(shown)
    print(_line(shown))
    return None


def _waited(client: ControlClient, shown: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    progress = show.Progress(quiet)
    while shown["state"] == "running":
        time.sleep(_LOOK_SECONDS)
        shown = client.warmup(shown["id"])
        if shown["bytes_total"]:
            progress({name: shown[name] for name in ("files", "files_total", "bytes", "bytes_total")})
    progress.done()
    return shown


def _tell(shown: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(shown)
    else:
        print(_line(shown))
    if shown["end"] in ("stalled", "gone"):
        raise typer.Exit(Exit.FAILED)


def _line(shown: dict[str, Any]) -> str:
    errors = sorted({one["error"] for one in shown["nodes"] if one["error"]})
    more = f": {printable(errors[0])}" if errors else ""
    return f"warm-up {shown['id']} of {shown['volume']}@{shown['region']} v{shown['version']}: {shown['end'] or shown['state']}, {_held(shown)}{more}"


def _held(one: dict[str, Any]) -> str:
    return f"{show.size(one['bytes'])} of {show.size(one['bytes_total'])}"
