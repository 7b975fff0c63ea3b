"""What every command needs: the node, and answers for programs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from headrace import settings as configuration
from headrace.errors import NotFound
from headrace.node.client import Client, connect

Directory = Annotated[str, typer.Argument(help="The mount point.")]
Json = Annotated[bool, typer.Option("--json", help="Answer for programs.")]


def print_json(value: Any) -> None:
    """Prints an answer for programs."""
    print(json.dumps(value, indent=2))


def running() -> Client:
    """The running node. Raises NotFound when none runs."""
    client = connect(configuration.load())
    if client is None:
        raise NotFound(
            "not-mounted",
            "node: none runs, so nothing is mounted; mount something first (`headrace mount s3://BUCKET/PREFIX DIR`)",
        )
    return client
