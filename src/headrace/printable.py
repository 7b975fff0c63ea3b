"""Text from elsewhere, made fit to be shown: what a server, a node or another user wrote must not move a terminal's cursor or fill a log."""

from __future__ import annotations

import unicodedata

# Controls, lone surrogates, line and paragraph separators; and what turns the direction of the text around it.
_UNSHOWN = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, most: int | None = None) -> str:
    """The text on one line, with escapes for what would not be seen as itself; cut to `most` letters, which `…` tells."""
    shown = "".join(_escaped(letter) if is_unshown(letter) else letter for letter in text[:most])
    # Escapes lengthen it.
    return shown if most is None or len(text) <= most >= len(shown) else shown[:most] + "…"


def is_unshown(letter: str) -> bool:
    """Whether a letter does something to what is around it instead of being seen."""
    return letter in _TURNING or unicodedata.category(letter) in _UNSHOWN


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii") if not "\ud800" <= letter <= "\udfff" else f"\\u{ord(letter):04x}"
