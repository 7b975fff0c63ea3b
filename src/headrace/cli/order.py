"""`headrace order`: what was learned of the order in which models are loaded."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli import show
from headrace.cli.place import place
from headrace.cli.reach import Json, print_json, running
from headrace.errors import UsageError
from headrace.node.orders import DOCUMENT_BYTES_MAX, encoded

# Letters of a file's name in that of the unfinished one.
_NAME_SHOWN = 64

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
        print(f"{order['directory'] or '/'}  {show.count(order['files'], 'file')}, {show.count(order['steps'], 'step')}, {show.size(order['bytes'])}")
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
    text = encoded(document) + "\n"
    if file == "-":
        print(text, end="")
        return None
    try:
        _write(Path(file), text)
    except OSError as error:
        raise UsageError("bad-setting", f"file: {file} can't be written: {error.strerror}; name another") from error
    if as_json:
        return print_json({"file": file, "steps": len(document["steps"])})
    print(f"{show.count(len(document['steps']), 'step')} written to {file}")
    return None


def _write(path: Path, text: str) -> None:
    """Writes a file whole or not at all. What is no file (a pipe, /dev/stdout) takes it as it comes."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        path.write_text(text)
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name[:_NAME_SHOWN]}.", delete=False) as unfinished:
        try:
            unfinished.write(text)
            unfinished.flush()
            os.fchmod(unfinished.fileno(), path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
            os.replace(unfinished.name, path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                os.unlink(unfinished.name)
            raise


def _umask() -> int:
    """It can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


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
    print(
        f"{show.count(answer['steps'], 'step')}, {show.size(answer['bytes'])}; "
        f"{answer['files_here']} of {show.count(answer['files'], 'file')} here with the same size"
    )
    return None


def _read(file: str) -> dict[str, Any]:
    name = "the standard input" if file == "-" else file
    try:
        content = _bytes(file)
    except OSError as error:
        raise UsageError("bad-setting", f"file: {name} can't be read: {error.strerror}; name a file that `headrace order export` wrote") from error
    try:
        document = json.loads(content, parse_constant=_no_number) if len(content) <= DOCUMENT_BYTES_MAX else None
        # As the node gets it: a letter may take more bytes there.
        size = max(len(content), len(encoded(document)))
    except (ValueError, RecursionError):
        document, size = None, len(content)
    if size > DOCUMENT_BYTES_MAX:
        raise UsageError(
            "bad-order",
            f"file: {name} is too large for an order (at most {DOCUMENT_BYTES_MAX} bytes); name a file that `headrace order export` wrote",
        )
    if not isinstance(document, dict):
        raise UsageError("bad-order", f"file: {name} is no learned order; name a file that `headrace order export` wrote")
    return document


def _bytes(file: str) -> bytes:
    """Not much more than an order may have."""
    if file != "-":
        with open(file, "rb") as source:
            return source.read(DOCUMENT_BYTES_MAX + 1)
    if sys.stdin is None:
        raise UsageError("bad-setting", "file: the standard input is closed; name a file that `headrace order export` wrote")
    return sys.stdin.buffer.read(DOCUMENT_BYTES_MAX + 1)


def _no_number(name: str) -> None:
    """NaN and Infinity are Python's own."""
    raise ValueError(f"{name} is no number")


@app.command("forget", epilog="Example: headrace order forget ./models/qwen")
def forget(directory: Inside, as_json: Json = False) -> None:
    """Forget what was learned of a directory and all below it."""
    with running(where := place(directory)) as client:
        answer = client.call("order.drop", directory=where)
    if as_json:
        return print_json(answer)
    print(f"{show.count(answer['orders'], 'order')} forgotten")
    return None
