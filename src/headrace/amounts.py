"""Sizes, times, numbers and text as people write them, within bounds that everything behind them can count.

Only ASCII digits are digits: Python's own idea of one takes `²` and `٣` too, and then fails to read the first, or surprises with the second.
Nothing goes through a binary fraction, so that no number is too long to be refused in good order.
"""

from __future__ import annotations

import re
from decimal import Decimal

from headrace.errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
# What a signed offset in a file can say.
_BYTES_MAX = 2**63 - 1
# A hundred years: more than any wait, and less than where the clocks of the system overflow.
_SECONDS_MAX = 36_525 * 86_400
# Finer than this no wait is; and such a number is still written without an exponent where it is handed on.
_SECONDS_MIN = 0.001
# More than any number here needs, and far less than what `int` refuses.
_DIGITS_MAX = 19


def parse_bytes(field: str, text: str) -> int:
    """Bytes from text such as `512Mi`, `1G` or `1073741824`."""
    match = _size(text)
    if match is None:
        raise UsageError("bad-setting", f"{field}: {text!r} is not a size; write it like 512Mi, 20G or 1073741824")
    count = _product(match[1], _UNITS[match[2]], _BYTES_MAX)
    if count is None:
        raise UsageError("bad-setting", f"{field}: it is more than {_BYTES_MAX} bytes, which no disk holds; give a smaller size")
    return int(count)


def is_size(text: str) -> bool:
    """Whether text is written like a size."""
    return _size(text) is not None


def parse_seconds(field: str, text: str) -> float:
    """Seconds from text such as `90`, `5m`, `2h` or `1d`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", text.lower(), re.ASCII)
    if match is None:
        raise UsageError("bad-setting", f"{field}: {text!r} is not a time; write it like 90, 5m, 2h or 1d")
    seconds = _product(match[1], _SECONDS[match[2]], _SECONDS_MAX)
    if seconds is None:
        raise UsageError("bad-setting", f"{field}: it is more than a hundred years; give at most {_SECONDS_MAX // 86_400}d")
    return max(round(float(seconds), 3), _SECONDS_MIN) if seconds else 0.0


def whole_number(text: str) -> int | None:
    """The number that text in ASCII digits is; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else None


def is_utf8(text: str) -> bool:
    """Whether text from a command line or an environment was UTF-8; of other bytes Python makes lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _size(text: str) -> re.Match[str] | None:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text.lower(), re.ASCII)
    return match if match and match[2] in _UNITS else None


def _product(number: str, unit: int, most: int) -> Decimal | None:
    """None when it is more than `most`. Compared first: a product of any length could be too long for a Decimal."""
    value = Decimal(number)
    return None if value > most or value * unit > most else value * unit
