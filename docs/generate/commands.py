"""Commands, arguments, options and exit codes, from the command line's own declarations."""

from __future__ import annotations

from typing import Any

import typer.main

from headrace.cli.app import app
from headrace.errors import Exit


def page() -> str:
    lines = [
        "# Commands",
        "",
        "Generated from `headrace/cli`. Every command answers `--help`. `--json` prints one JSON value for programs; errors and progress go to the",
        "standard error. `headrace --install-completion` sets up completion for the shell.",
        "",
        "| exit code | meaning |",
        "|---|---|",
        *(f"| {code.value} | {code.meaning} |" for code in Exit),
    ]
    for names, command in _commands(["headrace"], typer.main.get_command(app)):
        lines += _section(names, command)
    return "\n".join(lines) + "\n"


def _commands(names: list[str], group: Any) -> list[tuple[list[str], Any]]:
    """Every command below a group, in the order of declaration; hidden ones are left out."""
    found: list[tuple[list[str], Any]] = []
    for name, command in group.commands.items():
        if command.hidden:
            continue
        path = [*names, name]
        is_group = hasattr(command, "commands")
        if not is_group or command.invoke_without_command:
            found.append((path, command))
        if is_group:
            found += _commands(path, command)
    return found


def _section(names: list[str], command: Any) -> list[str]:
    shown = [parameter for parameter in command.params if not parameter.hidden]
    arguments = [parameter for parameter in shown if _is_argument(parameter)]
    options = [parameter for parameter in shown if not _is_argument(parameter)]
    usage = " ".join([*names, *(["[OPTIONS]"] if options else []), *map(_placeholder, arguments)])
    lines = ["", f"## {' '.join(names)}", "", "```", usage, "```", "", (command.help or "").strip()]
    if command.epilog:
        lines += ["", command.epilog.strip()]
    rows = [(_placeholder(parameter), parameter) for parameter in arguments] + [(_names(parameter), parameter) for parameter in options]
    if rows:
        lines += ["", "| | meaning | default |", "|---|---|---|"]
        lines += [f"| `{name}` | {_cell(parameter.help)} | {_default(parameter)} |" for name, parameter in rows]
    return lines


def _is_argument(parameter: Any) -> bool:
    return type(parameter).__name__.endswith("Argument")


def _placeholder(parameter: Any) -> str:
    text = (parameter.metavar or parameter.name.upper()) + ("…" if parameter.nargs == -1 else "")
    return text if parameter.required else f"[{text}]"


def _names(parameter: Any) -> str:
    text = ", ".join(parameter.opts)
    if not parameter.is_flag:
        return f"{text} {parameter.metavar or parameter.name.upper()}"
    return " / ".join([text, *parameter.secondary_opts])


def _default(parameter: Any) -> str:
    if parameter.default in (None, False, ()):
        return "—"
    return "yes" if parameter.default is True else f"`{parameter.default}`"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
