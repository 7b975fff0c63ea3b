"""What each method takes, and the check of it before a method runs.

Whoever may connect may also write nonsense, by mistake or with another version. It gets `bad-request` with the name of what does
not fit, and no method has to ask of a value what it is. Names that a method does not know are let through: a newer command may send more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import UsageError

# Longer than any path or key; errors repeat what was asked, and their line must stay under the protocol's limit.
TEXT_BYTES_MAX = 64 * 1024
_U32_MAX = 2**32 - 1


@dataclass(frozen=True)
class Kind:
    """What a value must be, in words and as a test."""

    words: str
    fits: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    """A lone surrogate is no text anywhere but in JSON, and a NUL ends a path in the middle."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        return len(value.encode()) <= TEXT_BYTES_MAX
    except UnicodeEncodeError:
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _U32_MAX


TEXT = Kind(f"text of at most {TEXT_BYTES_MAX} bytes, without NUL", _is_text)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER = Kind(f"a number from 0 to {_U32_MAX}", _is_number)
TEXTS = Kind(f"a list of {TEXT.words}", lambda value: isinstance(value, list) and all(map(_is_text, value)))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
NAMED_TEXTS = Kind(
    f"names, each with {TEXT.words}",
    lambda value: isinstance(value, dict) and all(_is_text(name) and _is_text(text) for name, text in value.items()),
)


def _optional(kind: Kind) -> Kind:
    return Kind(f"{kind.words}, or null", lambda value: value is None or kind.fits(value))


def _some_texts(value: Any) -> bool:
    return bool(TEXTS.fits(value) and value)


def _record(fields: Mapping[str, Kind]) -> Kind:
    """An object with some of these fields and no others."""
    words = "; ".join(f"{name}: {kind.words}" for name, kind in fields.items())
    return Kind(
        f"an object of ({words})",
        lambda value: isinstance(value, dict) and all(name in fields and fields[name].fits(part) for name, part in value.items()),
    )


_MAYBE_TEXT, _MAYBE_FLAG, _MAYBE_NUMBER, _MAYBE_TEXTS = map(_optional, (TEXT, FLAG, NUMBER, TEXTS))
_SOME_TEXTS = Kind(f"at least one of {TEXTS.words}", _some_texts)
_ORIGIN = _optional(
    _record({"endpoint": _MAYBE_TEXT, "region": _MAYBE_TEXT, "addressing": _MAYBE_TEXT, "profile": _MAYBE_TEXT, "anonymous": _MAYBE_FLAG})
)
_LOOK = _record(
    {
        "uid": _MAYBE_NUMBER,
        "gid": _MAYBE_NUMBER,
        "file_mode": NUMBER,
        "dir_mode": NUMBER,
        "allow_other": FLAG,
        "passthrough": FLAG,
    }
)
_SOURCE = {"source": TEXT, "environment": NAMED_TEXTS, "origin": _ORIGIN, "snapshot": _MAYBE_TEXT}

PARAMETERS: dict[str, dict[str, Kind]] = {
    "mount": {**_SOURCE, "directory": TEXT, "look": _LOOK, "pin": _MAYBE_FLAG},
    "umount": {"directory": TEXT, "lazy": _MAYBE_FLAG},
    "status": {"directory": _MAYBE_TEXT},
    "refresh": {"directory": TEXT},
    "snapshots": {"directory": TEXT},
    "rollback": {"directory": TEXT, "snapshot": TEXT},
    "warm": {"paths": _SOME_TEXTS, "include": _MAYBE_TEXTS, "exclude": _MAYBE_TEXTS},
    "cache.list": {"limit": _MAYBE_NUMBER},
    "cache.evict": {"paths": _MAYBE_TEXTS, "all": _MAYBE_FLAG},
    "cache.pin": {"paths": _SOME_TEXTS, "pinned": FLAG},
    "cache.verify": {},
    "credentials": {"directory": TEXT, "environment": NAMED_TEXTS},
    "metrics": {},
    "ping": {},
    "stop": {},
    "order.list": {"directory": TEXT},
    "order.get": {"directory": TEXT},
    "order.put": {"directory": TEXT, "order": OBJECT},
    "order.drop": {"directory": TEXT},
    "volume.open": _SOURCE,
    "volume.list": {"volume": TEXT, "directory": TEXT, "start": _MAYBE_NUMBER},
    "volume.stat": {"volume": TEXT, "path": TEXT},
    "volume.warm": {"volume": TEXT, "paths": TEXTS},
    "volume.close": {"volume": TEXT},
    "control.join": {"url": TEXT, "token": TEXT, "name": _MAYBE_TEXT, "labels": _optional(NAMED_TEXTS), "certificates": _MAYBE_TEXT},
    "control.leave": {},
}


def checked(method: str, params: Any) -> dict[str, Any]:
    """The parameters of a call as its method can use them. Raises UsageError `bad-request` naming the one that does not fit."""
    given = {} if params is None else params
    if not isinstance(given, dict):
        raise UsageError("bad-request", f"{method}: params must be an object; use the same version of headrace on both sides")
    for name, kind in PARAMETERS[method].items():
        if not kind.fits(given.get(name)):
            raise UsageError("bad-request", f"{method}: {name} must be {kind.words}; use the same version of headrace on both sides")
    return dict(given)
