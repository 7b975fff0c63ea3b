"""`headrace region`: places where tasks run."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from headrace.amounts import parse_seconds
from headrace.cli.logged_in import control, language
from headrace.cli.reach import Json, print_json
from headrace.cli.tables import print_table
from headrace.errors import UsageError

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
        made = client.create_join_token(name, int(parse_seconds("lasts", lasts)), secrets.token_hex(16))
    if as_json:
        return print_json(made)
    print(made["token"])
    return None


@app.command("show", epilog="Example: headrace region show zj-1")
def show(name: Name, as_json: Json = False) -> None:
    """One region."""
    with control() as client:
        region = client.region(name)
    if as_json:
        return print_json(region)
    for field in ("name", "title", "title_zh", "created"):
        print(f"{field:<10} {region[field]}")
    return None


@app.command("edit", epilog="Example: headrace region edit zj-1 --title-zh 浙江一区")
def edit(
    name: Name,
    title: Annotated[str | None, typer.Option(help="How it is shown in English.")] = None,
    title_zh: Annotated[str | None, typer.Option(help="How it is shown in Chinese.")] = None,
    as_json: Json = False,
) -> None:
    """Change how a region is shown. For administrators."""
    changes = {field: value for field, value in (("title", title), ("title_zh", title_zh)) if value is not None}
    if not changes:
        raise UsageError("bad-setting", "nothing to change; give --title or --title-zh")
    with control() as client:
        region = client.edit_region(name, changes, client.region(name)["etag"])
    if as_json:
        return print_json(region)
    print(f"region {name} is changed")
    return None
