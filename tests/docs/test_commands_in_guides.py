"""Every `headrace …` in a guide is a command that there is, with options that it has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from headrace.cli.app import app

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs/guides").glob("*.md")) + sorted(ROOT.glob("README*.md"))
# In code, in a line of its own or within text; with variables before it, and with whatever comes behind `--`, `|` or `#` left out.
WRITTEN = re.compile(r"`(headrace [^`\n]+)`|^(?:[$#] )?(?:\w+=\S+ )*(headrace .+)$", re.MULTILINE)


def _written(path: Path) -> list[str]:
    return [inline or line for inline, line in WRITTEN.findall(path.read_text())]


def _unknown(text: str) -> str:
    """What there is not; empty for a command that is right."""
    words = shlex.split(re.split(r" (?:--|\||#|>|&&) ", text + " ")[0], comments=True)[1:]
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return words[0]
        command = command.commands[words.pop(0)]
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    return next((word for word in words if word.startswith("-") and word != "-" and word.partition("=")[0] not in known), "")


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_commands_in_a_guide_are_there(path: Path) -> None:
    assert [(text, found) for text in _written(path) if (found := _unknown(text))] == []


def test_a_command_that_is_not_there_is_found() -> None:
    assert [_unknown(text) for text in ("headrace task place --mount qwen", "headrace tasks", "headrace task ls --all")] == ["--mount", "tasks", ""]
