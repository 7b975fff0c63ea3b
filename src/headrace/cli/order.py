"""`headrace order`: what was learned of the order in which models are loaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli import show
from headrace.cli.place import place
from headrace.cli.reach import Json, print_json, running
from headrace.errors import UsageError
from headrace.node.protocol import LINE_MAX

Inside = Annotated[str, typer.Argument(help="A mount point, or a directory in a mount.")]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The order in which models are loaded: learned from each load, and fetched in ahead of the next one.",
)


@app.command("ls", epilog="Example: headrace order ls ./models")
def ls(directory: Inside, as_json: Json = False) -> None:
    """What was learned, for each directory that models were loaded from."""
    with running(where := place(directory)) as client:
        orders = client.call("order.list", directory=where)
    if as_json:
        return print_json(orders)
    for order in orders:
        print(f"{order['directory'] or '/'}  {order['files']} files, {order['steps']} steps, {show.size(order['bytes'])}")
    if not orders:
        print("nothing was learned yet; load a model from here")
    return None


@app.command("export", epilog="Example: headrace order export ./models/qwen qwen.order")
def export(
    directory: Inside, file: Annotated[str, typer.Argument(help="Where to write it; - is the standard output.")] = "-", as_json: Json = False
) -> None:
    """Write what was learned of one directory, for another machine."""
    with running(where := place(directory)) as client:
        document = client.call("order.get", directory=where)
    text = json.dumps(document, separators=(",", ":")) + "\n"
    if file == "-":
        print(text, end="")
        return None
    try:
        Path(file).write_text(text)
    except OSError as error:
        raise UsageError("bad-setting", f"file: {file} can't be written: {error.strerror}; name another") from error
    if as_json:
        return print_json({"file": file, "steps": len(document["steps"])})
    print(f"{len(document['steps'])} steps written to {file}")
    return None


@app.command("import", epilog="Example: headrace order import ./models/qwen qwen.order")
def import_(
    directory: Inside, file: Annotated[str, typer.Argument(help="What `export` wrote; - is the standard input.")], as_json: Json = False
) -> None:
    """Have the next load of a directory go by an order learned elsewhere."""
    document = _read(file)
    with running(where := place(directory)) as client:
        answer = client.call("order.put", directory=where, order=document)
    if as_json:
        return print_json(answer)
    print(f"{answer['steps']} steps, {show.size(answer['bytes'])}")
    return None


def _read(file: str) -> dict[str, Any]:
    try:
        with sys.stdin.buffer if file == "-" else open(file, "rb") as source:
            content = source.read(LINE_MAX + 1)
    except OSError as error:
        raise UsageError("bad-setting", f"file: {file} can't be read: {error.strerror}; name a file that `headrace order export` wrote") from error
    try:
        document = json.loads(content) if len(content) <= LINE_MAX else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UsageError("bad-order", f"file: {file} is no learned order; name a file that `headrace order export` wrote")
    return document


@app.command("forget", epilog="Example: headrace order forget ./models/qwen")
def forget(directory: Inside, as_json: Json = False) -> None:
    """Forget what was learned of a directory and all below it."""
    with running(where := place(directory)) as client:
        answer = client.call("order.drop", directory=where)
    if as_json:
        return print_json(answer)
    print(f"{answer['orders']} orders forgotten")
    return None
