"""The Python interface: what `headrace` exports, with signatures and docstrings as they stand in the code."""

from __future__ import annotations

import inspect
from typing import Any

import headrace


def page() -> str:
    lines = ["# Python", "", "Generated from `headrace/sdk`. Everything here is imported from `headrace`; errors are on [their own page](errors.md)."]
    for name in headrace.__all__:
        thing = getattr(headrace, name)
        if inspect.isfunction(thing):
            lines += _section("##", f"headrace.{name}{inspect.signature(thing)}", thing)
        elif inspect.isclass(thing) and not issubclass(thing, headrace.HeadraceError):
            lines += _class(name, thing)
    return "\n".join(lines) + "\n"


def _class(name: str, thing: type) -> list[str]:
    lines = _section("##", f"class headrace.{name}", thing)
    for member, value in vars(thing).items():
        if member.startswith("_"):
            continue
        if isinstance(value, property):
            lines += _section("###", f"{name}.{member}", value, "property")
        elif isinstance(value, (classmethod, staticmethod)) or inspect.isfunction(value):
            function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            lines += _section("###", f"{name}.{member}{inspect.signature(function)}", value)
    return lines


def _section(level: str, title: str, thing: Any, kind: str = "") -> list[str]:
    """A heading, the signature and the docstring; nothing for what has no docstring, which is Python's own interface."""
    text = (thing.__doc__ and inspect.getdoc(thing)) or ""
    if not text:
        return []
    short = title.partition("(")[0].removeprefix("class ").removeprefix("headrace.")
    return ["", f"{level} {short}", "", "```python", f"{title}  # {kind}" if kind else title, "```", "", "```text", text, "```"]
