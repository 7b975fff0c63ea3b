"""`headrace accelerate`, `release`, `versions`, and what `refresh` and `rollback` do for a volume in a region."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.amounts import parse_seconds
from headrace.cli import show
from headrace.cli.logged_in import control, language
from headrace.cli.reach import Json, print_json
from headrace.cli.tables import print_table
from headrace.errors import Exit, HeadraceError, UsageError
from headrace.printable import printable

if TYPE_CHECKING:
    from headrace.client import ControlClient

Volume = Annotated[str, typer.Argument(help="Name of the volume.")]
Region = Annotated[str, typer.Option(help="Name of the region.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until all is held, with progress. Ctrl-C stops the waiting only.")]

_LOOK_SECONDS = 1.0
_COMPARED_SECONDS = 0.2


def accelerate(
    volume: Volume,
    region: Region,
    include: Annotated[list[str] | None, typer.Option(help="Pull only files that match; may be given again.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Pull no files that match; may be given again.")] = None,
    metadata_only: Annotated[bool, typer.Option("--metadata-only", help="Pull nothing ahead; files come when they are read.")] = False,
    nodes: Annotated[int | None, typer.Option(min=1, help="How many nodes hold it; all without it.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Nodes with this label hold it, as KEY=VALUE; may be given again.")] = None,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Start to accelerate a volume in a region. It can be mounted as soon as its files are listed."""
    said = {"region": region, "selection": selection_of(include, exclude, metadata_only=metadata_only), "placement": _placement(nodes, label)}
    with control() as client:
        made = client.start_acceleration(volume, said, secrets.token_hex(16))
        _end(client, made, wait=wait, as_json=as_json)


def release(
    volume: Volume,
    region: Region,
    force: Annotated[bool, typer.Option("--force", help="Also while tasks mount it: their mounts end.")] = False,
    as_json: Json = False,
) -> None:
    """Release what is held of a volume, on every node of a region. The volume stays."""
    with control() as client:
        shown = client.release(volume, region, force=force)
    if as_json:
        return print_json(shown)
    print(f"{volume}@{region} is released")
    return None


def versions(
    volume: Volume,
    region: Region,
    label: Annotated[str | None, typer.Option(help="Call a version something, as v3=stable; v3= takes that away.")] = None,
    as_json: Json = False,
) -> None:
    """Kept versions of a volume in a region."""
    with control() as client:
        if label is not None:
            version, equals, text = label.partition("=")
            if not equals:
                raise UsageError("bad-setting", f"label: {label!r} is not VERSION=LABEL; write it like v3=stable")
            client.label_version(volume, region, _number(version), text)
        found = client.versions(volume, region)
    if as_json:
        return print_json(found)
    rows = [
        (f"v{v['number']}", v["files"], show.size(v["bytes"]), v["created"], v["label"], v["whole"], "current" if v["current"] else "") for v in found
    ]
    print_table(("VERSION", "FILES", "SIZE", "CREATED", "LABEL", "READABLE", ""), rows, "no versions: it is not accelerated there")
    return None


def accelerations(region: Annotated[str | None, typer.Option(help="Of one region only.")] = None, as_json: Json = False) -> None:
    """Volumes by region: their state, whether they can be mounted, and what is held of them."""
    with control() as client:
        found = list(client.accelerations(**({"region": region} if region else {})))
    if as_json:
        return print_json(found)
    state = "state_zh" if language() == "zh" else "state"
    rows = [
        (
            a["volume"],
            a["region"],
            a[state],
            a["condition"],
            "yes" if a["mountable"] else "no",
            f"v{a['current']}" if a["current"] else "",
            show.size(a["bytes_held"]),
        )
        for a in found
    ]
    print_table(
        ("VOLUME", "REGION", "STATE", "CONDITION", "MOUNTABLE", "VERSION", "HELD"), rows, "nothing is accelerated; start with `headrace accelerate`"
    )
    return None


def compare(volume: str, region: str, *, as_json: bool) -> None:
    """Tells what a refresh would bring; nothing is changed."""
    with control() as client:
        shown = client.compare(volume, region)
        while shown["state"] == "running":
            time.sleep(_COMPARED_SECONDS)
            shown = client.comparison(volume, region, shown["id"])
    if as_json:
        print_json(shown)
    elif shown["state"] == "done":
        show.change(shown["found"], f"{volume}@{region} stays at v{shown['version']}")
    if shown["state"] == "failed":
        raise HeadraceError("refresh-failed", printable(shown["error"]))


def refresh(volume: str, region: str, *, at_once: bool, wait: bool, every: str | None, as_json: bool) -> None:
    """Lists a volume's origin again, for a region; with `every`, has that done by itself from now on, or (0) no longer."""
    seconds = parse_seconds("every", every) if every is not None else 0.0
    with control() as client:
        if every is not None:
            etag = client.acceleration(volume, region)["etag"]
            shown = client.edit_acceleration(volume, region, {"refresh_every_seconds": int(seconds)}, etag)
            return print_json(shown) if as_json else print(f"{volume}@{region} is refreshed {f'every {every}' if seconds else 'when asked for'}")
        _end(client, client.refresh(volume, region, at_once=at_once), wait=wait, as_json=as_json)
    return None


def roll_back(volume: str, region: str, version: str, *, as_json: bool) -> None:
    """Makes a kept version current."""
    number = _number(version)
    with control() as client:
        shown = client.roll_back(volume, region, number)
    if as_json:
        return print_json(shown)
    print(f"{volume}@{region} is at v{shown['current']}")
    return None


def _number(version: str) -> int:
    number = version.removeprefix("v")
    if not (number.isascii() and number.isdigit()):
        raise UsageError("bad-setting", f"version: {version!r} is not a version; give one like v3, as `headrace versions` shows them")
    return int(number)


def selection_of(include: list[str] | None, exclude: list[str] | None, *, metadata_only: bool) -> dict[str, Any]:
    """What is pulled, as the API has it. Raises UsageError."""
    if metadata_only and (include or exclude):
        raise UsageError("bad-setting", "--metadata-only and patterns exclude each other; give one of them")
    if include or exclude:
        return {"kind": "patterns", "include": include or [], "exclude": exclude or []}
    return {"kind": "metadata" if metadata_only else "all"}


def _placement(nodes: int | None, label: list[str] | None) -> dict[str, Any]:
    if nodes and label:
        raise UsageError("bad-setting", "--nodes and --label exclude each other; give one of them")
    if nodes:
        return {"kind": "number", "number": nodes}
    return {"kind": "labels", "labels": dict(map(key_and_value, label))} if label else {"kind": "all"}


def key_and_value(text: str) -> tuple[str, str]:
    """A label as it is written."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError("bad-setting", f"label: {text!r} is not KEY=VALUE; write it like gpu=H800")
    return key, value


def _end(client: ControlClient, shown: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    """Tells what was begun, and waits for its end where that is asked for."""
    if wait:
        shown = _waited(client, shown, quiet=as_json)
    if as_json:
        print_json(shown)
    else:
        print(_line(shown))
    if shown["condition"]:
        raise typer.Exit(Exit.FAILED)


def _waited(client: ControlClient, shown: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    progress = show.Progress(quiet)
    while shown["state"] == "syncing":
        time.sleep(_LOOK_SECONDS)
        shown = client.acceleration(shown["volume"], shown["region"])
        if shown["bytes_total"]:
            progress({"files": shown["files"], "files_total": shown["files_total"], "bytes": shown["bytes"], "bytes_total": shown["bytes_total"]})
    progress.done()
    return shown


def _line(shown: dict[str, Any]) -> str:
    name = f"{shown['volume']}@{shown['region']}"
    if shown["condition"]:
        tongue = language()
        return printable(f"{name}: {shown['condition']}: {shown['reason'].get(tongue, '')}")
    held = f", {show.size(shown['bytes_held'])} held" if shown["bytes_held"] else ""
    version = f" at v{shown['current']}" if shown["current"] else ""
    return f"{name} is {shown['state']}{version}{held}"
