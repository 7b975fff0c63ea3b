"""The tables of docs/concepts/states.md."""

from __future__ import annotations

from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs/concepts/states.md"


def table(heading: str) -> list[tuple[str, ...]]:
    """The rows below a heading, without their head."""
    part = _PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows[2:]]
