"""Errors by code: the exit code of the command, and the messages as the code has them.

Python's are found where they are raised; the engine's are the messages of its error enums, read from their sources, where
`fn code` gives each variant its code. What stands in braces differs from case to case.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import headrace.errors
from headrace.errors import Exit, from_code

_ROOT = Path(__file__).parents[2]
_RAISERS = re.compile(r"(\w+Error|\w+Failure|NotFound|from_code)")
_VARIANT = re.compile(r'#\[error\(\s*"((?:[^"\\]|\\.)*)"[^\]]*?\)\]\s*(\w+)')
_METHODS = {"get", "join", "rstrip", "value"}
_CODE = re.compile(r"((?:\w+::\w+(?:\s*\{[^}]*\}|\([^)]*\))?[\s|]*)+)=>\s*\"([a-z-]+)\"")


def page() -> str:
    messages = _messages()
    tree = (headrace.errors.__doc__ or "").split("\n\n")[1].rstrip()
    lines = [
        "# Errors",
        "",
        "Generated from the places where errors are made. A command that fails prints `error: MESSAGE` and ends with an exit code; over the",
        "node's socket an error has a code and a message. In Python an error is an exception with `code` and `message`:",
        "",
        "```",
        tree,
        "```",
        "",
        "| code | exit code | messages |",
        "|---|---|---|",
    ]
    for code in sorted(messages):
        texts = "<br>".join(sorted(_cell(text) for text in messages[code]))
        exit_code: Exit = from_code(code, "").exit_code
        lines.append(f"| `{code}` | {exit_code.value} | {texts} |")
    return "\n".join(lines) + "\n"


def _messages() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((_ROOT / "src/headrace").rglob("*.py")):
        if "testing" not in path.parts:
            _from_python(ast.parse(path.read_text()), found)
    for path in sorted((_ROOT / "engine").glob("*/src/*.rs")):
        _from_rust(path.read_text(), found)
    return found


def _from_python(tree: ast.Module, found: dict[str, set[str]]) -> None:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(code)), message, *_]) if _RAISERS.fullmatch(name):
                pass
            case ast.Dict(keys=[ast.Constant(value="code"), ast.Constant(value="message")], values=[ast.Constant(value=str(code)), message]):
                pass
            case _:
                continue
        if text := _template(message):
            found[code].add(text)


def _template(node: ast.expr) -> str:
    """The text of a literal, with what is filled in as names in braces; empty for anything else."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_template(value) for value in values)
        case ast.FormattedValue(value=value):
            names = [each.id for each in ast.walk(value) if isinstance(each, ast.Name)]
            attributes = [each.attr for each in ast.walk(value) if isinstance(each, ast.Attribute)]
            keys = [each.value for each in ast.walk(value) if isinstance(each, ast.Constant) and str(each.value).isidentifier()]
            return "{" + str([*keys, *(a for a in attributes if a not in _METHODS), *names, "…"][0]) + "}"
    return ""


def _from_rust(source: str, found: dict[str, set[str]]) -> None:
    texts = {variant: text for text, variant in _VARIANT.findall(source)}
    for variants, code in _CODE.findall(source):
        for variant in re.findall(r"::(\w+)", variants):
            if variant in texts:
                plain = re.sub(r"\{(\w*)(:[^}]*)?\}", lambda part: "{" + (part[1] if part[1].isidentifier() else "…") + "}", texts[variant])
                if re.search(r"\w", re.sub(r"\{[^}]*\}", "", plain)):  # one that only hands on another's message says nothing
                    found[code].add(plain.replace('\\"', '"'))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
