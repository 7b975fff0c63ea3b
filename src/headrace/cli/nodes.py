"""`headrace node ls|show|label|drain|rm`: nodes as the control plane knows them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headrace.cli.logged_in import control
from headrace.cli.reach import Json, print_json
from headrace.cli.show import size
from headrace.cli.tables import print_table
from headrace.errors import NotFound, UsageError
from headrace.printable import printable

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Nodes, as the control plane knows them.")

Node = Annotated[str, typer.Argument(help="ID of the node, as `headrace node ls` shows it; or its name, with --region.")]
Region = Annotated[str | None, typer.Option(help="Region of the node, where its name is given.")]


@app.command("ls", epilog="Example: headrace node ls --region zj-1")
def ls(region: Annotated[str | None, typer.Option(help="Of one region only.")] = None, as_json: Json = False) -> None:
    """Nodes, with their state and room."""
    with control() as client:
        found = list(client.nodes(**({"region": region} if region else {})))
    if as_json:
        return print_json(found)
    rows = [(n["id"], n["name"], n["region"], n["state"], f"{size(n['used_bytes'])} of {size(n['capacity_bytes'])}", n["heard"]) for n in found]
    print_table(("ID", "NAME", "REGION", "STATE", "BYTES", "HEARD"), rows, "no nodes; `headrace region join` makes a token to join with")
    return None


@app.command("show", epilog="Example: headrace node show gpu-1 --region zj-1")
def show(node: Node, region: Region = None, as_json: Json = False) -> None:
    """One node: what it told last."""
    with control() as client:
        found = client.node(_id(client, node, region))
    if as_json:
        return print_json(found)
    for field in ("id", "name", "region", "state", "version", "joined", "heard"):
        print(f"{field:<10} {printable(str(found[field]))}")
    print(f"{'bytes':<10} {size(found['used_bytes'])} of {size(found['capacity_bytes'])}")
    for title, entries in (("label", found["labels"]), ("health", found["health"])):
        for name, value in entries.items():
            print(printable(f"{title:<10} {name}={value}"))
    return None


@app.command("label", epilog="Example: headrace node label gpu-1 gpu=H800 old- --region zj-1")
def label(
    node: Node,
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE|KEY-…", help="A label to set, or with a dash behind it to take away.")],
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Change a node's labels, by which accelerations and tasks find it. For administrators."""
    wanted = _labels(changes)
    with control() as client:
        found = client.label_node(_id(client, node, region), wanted)
    if as_json:
        return print_json(found)
    labels = " ".join(f"{name}={value}" for name, value in found["labels"].items())
    print(printable(f"node {found['name']} has {labels or 'no labels'}"))
    return None


def _labels(changes: list[str]) -> dict[str, str | None]:
    wanted: dict[str, str | None] = {}
    for text in changes:
        key, equals, value = text.partition("=")
        if not equals:
            key = text.removesuffix("-")
        if not key or key == text:
            raise UsageError("bad-setting", f"label: {text!r} is neither KEY=VALUE nor KEY-; write it like gpu=H800, or gpu- to take it away")
        if key in wanted:
            raise UsageError("bad-setting", f"label: {key!r} is said twice; say it once")
        wanted[key] = value if equals else None
    return wanted


@app.command("drain", epilog="Example: headrace node drain gpu-1 --region zj-1")
def drain(
    node: Node,
    region: Region = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take it back into use.")] = False,
    as_json: Json = False,
) -> None:
    """Give a node nothing new to hold, and no new tasks. For administrators."""
    with control() as client:
        found = client.drain_node(_id(client, node, region), draining=not undo)
    if as_json:
        return print_json(found)
    print(f"node {found['name']} is {found['state']}")
    return None


@app.command("rm", epilog="Example: headrace node rm gpu-1 --region zj-1")
def rm(node: Node, region: Region = None, as_json: Json = False) -> None:
    """Remove a node; its identity ends at once. For administrators."""
    with control() as client:
        identifier = _id(client, node, region)
        client.remove_node(identifier)
    if as_json:
        return print_json({"id": identifier})
    print(f"node {node} is removed")
    return None


def _id(client: Any, node: str, region: str | None) -> str:
    """The node's ID. A name is one node's in its region only, so it needs the region."""
    if not node:
        raise UsageError("bad-setting", "node: it is empty; give its ID, or its name and --region")
    if region is None:
        return node
    for one in client.nodes(region=region):
        if node in (one["name"], one["id"]):
            return str(one["id"])
    raise NotFound("unknown", f"node: there is no {node} in {region}; `headrace node ls --region {region}` lists them")
