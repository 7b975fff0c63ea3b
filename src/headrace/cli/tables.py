"""Tables for people: columns as wide as what is in them, and nothing in them that moves a terminal's cursor."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from headrace.printable import printable


def print_table(titles: Sequence[str], rows: Sequence[Sequence[object]], none: str) -> None:
    """Prints rows below their titles, or says `none`."""
    if not rows:
        print(none)
        return
    texts = [[printable(str(cell)) for cell in row] for row in (titles, *rows)]
    widths = [max(width(row[column]) for row in texts) for column in range(len(titles))]
    for row in texts:
        print("  ".join(cell + " " * (size - width(cell)) for cell, size in zip(row, widths, strict=True)).rstrip())


def width(text: str) -> int:
    """Columns that a text takes on a terminal: East Asian letters take two, combining ones none."""
    return sum(0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
