"""Texts that people give to things."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

_NAME_MAX = 63


def _line(text: str) -> str:
    """Text of one line: no control characters, no lone surrogates, nothing invisible around it."""
    text = unicodedata.normalize("NFC", text.strip())
    if not text:
        raise ValueError("it is empty; give a text")
    if any(unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in text):
        raise ValueError("it holds a control character; give one line of text")
    return text


def _name(text: str) -> str:
    """A name that can stand in a command and in a path: letters and digits of any script, `-`, `_` and `.`."""
    text = unicodedata.normalize("NFC", text)
    if not 1 <= len(text) <= _NAME_MAX:
        raise ValueError(f"a name has 1 to {_NAME_MAX} letters")
    if not all(letter.isalnum() or letter in "-_." or unicodedata.category(letter).startswith("M") for letter in text):
        raise ValueError("a name has letters and digits of any script, -, _ and . only")
    if not text[0].isalnum():
        raise ValueError("a name begins with a letter or a digit")
    return text


Line = Annotated[str, Field(max_length=255), AfterValidator(_line)]
Name = Annotated[str, Field(min_length=1, max_length=_NAME_MAX), AfterValidator(_name)]
