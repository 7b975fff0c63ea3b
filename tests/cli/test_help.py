"""Every command explains itself."""

from __future__ import annotations

import pytest
import typer.main
from typer.testing import CliRunner

from headrace.cli.app import app


def commands() -> list[list[str]]:
    found: list[list[str]] = []
    waiting = [([], typer.main.get_command(app))]
    while waiting:
        names, command = waiting.pop()
        found.append(names)
        waiting += [([*names, name], below) for name, below in getattr(command, "commands", {}).items()]
    return sorted(found)


@pytest.mark.parametrize("names", commands(), ids=" ".join)
def test_help(names: list[str]) -> None:
    done = CliRunner().invoke(app, [*names, "--help"])
    assert (done.exit_code, done.exception) == (0, None)
    assert done.stdout.lstrip().startswith("Usage:")
