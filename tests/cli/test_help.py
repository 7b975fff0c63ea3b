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


# Nothing but what holds other commands.
GROUPS = ([], ["cache"], ["control"], ["order"], ["region"], ["task"], ["token"], ["volume"], ["warmup"])


@pytest.mark.parametrize("names", commands(), ids=" ".join)
def test_help(names: list[str]) -> None:
    done = CliRunner().invoke(app, [*names, "--help"])
    assert (done.exit_code, done.exception) == (0, None)
    assert done.stdout.lstrip().startswith("Usage:")


@pytest.mark.parametrize("names", [names for names in commands() if names not in GROUPS], ids=" ".join)
def test_every_command_has_an_example(names: list[str]) -> None:
    shown = CliRunner().invoke(app, [*names, "--help"]).stdout
    assert "Example: " in shown
    assert f"headrace {' '.join(names)}" in shown.partition("Example: ")[2]


# A page of counters for Prometheus, lines of a log, a process that stays, and another command: what these print has a form of its own.
OF_THEIR_OWN_FORM = (["up"], ["metrics"], ["logs"], ["node"], ["task", "run"])


@pytest.mark.parametrize("names", [n for n in commands() if n not in (*GROUPS, *OF_THEIR_OWN_FORM)], ids=" ".join)
def test_every_command_that_tells_something_answers_programs(names: list[str]) -> None:
    assert "--json" in CliRunner().invoke(app, [*names, "--help"]).stdout


@pytest.mark.parametrize("limit", ["-1", "0"])
def test_a_limit_below_one_is_wrong_usage(limit: str) -> None:
    """The node was asked, and the message was to use the same version on both sides."""
    done = CliRunner().invoke(app, ["cache", "ls", "--limit", limit])
    assert done.exit_code == 2
    assert "limit" in done.output
