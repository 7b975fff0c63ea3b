"""`headrace region`: places where tasks run."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from headrace.amounts import parse_seconds
from headrace.cli.control import control, language
from headrace.cli.reach import Json, print_json
from headrace.cli.show import size
from headrace.cli.tables import print_table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Regions: places where tasks run and nodes are.")

Name = Annotated[str, typer.Argument(help="Name of the region, like zj-1.")]


@app.command("add", epilog="Example: headrace region add zj-1 --title 'Zhejiang 1' --title-zh 浙江一区")
def add(
    name: Name,
    title: Annotated[str | None, typer.Option(help="How it is shown in English.")] = None,
    title_zh: Annotated[str | None, typer.Option(help="How it is shown in Chinese.")] = None,
    as_json: Json = False,
) -> None:
    """Add a region. For administrators."""
    said = {field: value for field, value in (("name", name), ("title", title), ("title_zh", title_zh)) if value is not None}
    with control() as client:
        made = client.create_region(said, secrets.token_hex(16))
    if as_json:
        return print_json(made)
    print(f"region {made['name']} is there; `headrace region join {made['name']}` makes a token for a node")
    return None


@app.command("ls", epilog="Example: headrace region ls")
def ls(as_json: Json = False) -> None:
    """Regions."""
    with control() as client:
        found = list(client.regions())
    if as_json:
        return print_json(found)
    title = "title_zh" if language() == "zh" else "title"
    print_table(("NAME", "SHOWN AS"), [(region["name"], region[title]) for region in found], "no regions; add one with `headrace region add`")
    return None


@app.command("rm", epilog="Example: headrace region rm zj-1")
def rm(name: Name, as_json: Json = False) -> None:
    """Remove a region that has no nodes. For administrators."""
    with control() as client:
        client.delete_region(name)
    if as_json:
        return print_json({"name": name})
    print(f"region {name} is removed")
    return None


@app.command("join", epilog="Example: headrace region join zj-1 --lasts 10m")
def join(name: Name, lasts: Annotated[str, typer.Option(help="How long, up to 1d.")] = "1h", as_json: Json = False) -> None:
    """Make a token that one node can join a region with. It is shown this once. For administrators."""
    with control() as client:
        made = client.create_join_token(name, int(parse_seconds("lasts", lasts)))
    if as_json:
        return print_json(made)
    print(made["token"])
    return None


@app.command("nodes", epilog="Example: headrace region nodes zj-1")
def nodes(name: Annotated[str | None, typer.Argument(help="Of one region only.")] = None, as_json: Json = False) -> None:
    """Nodes, with their state and room."""
    with control() as client:
        found = list(client.nodes(**({"region": name} if name else {})))
    if as_json:
        return print_json(found)
    rows = [(n["id"], n["name"], n["region"], n["state"], f"{size(n['used_bytes'])} of {size(n['capacity_bytes'])}", n["heard"]) for n in found]
    print_table(("ID", "NAME", "REGION", "STATE", "BYTES", "HEARD"), rows, "no nodes")
    return None


@app.command("drain", epilog="Example: headrace region drain 01jz…")
def drain(
    identifier: Annotated[str, typer.Argument(help="ID of the node.")],
    undo: Annotated[bool, typer.Option("--undo", help="Take it back into use.")] = False,
    as_json: Json = False,
) -> None:
    """Give a node nothing new to hold, and no new tasks. For administrators."""
    with control() as client:
        node = client.drain_node(identifier, draining=not undo)
    if as_json:
        return print_json(node)
    print(f"node {node['name']} is {node['state']}")
    return None


@app.command("remove", epilog="Example: headrace region remove 01jz…")
def remove(identifier: Annotated[str, typer.Argument(help="ID of the node.")], as_json: Json = False) -> None:
    """Remove a node; its identity ends at once. For administrators."""
    with control() as client:
        client.remove_node(identifier)
    if as_json:
        return print_json({"id": identifier})
    print(f"node {identifier} is removed")
    return None
