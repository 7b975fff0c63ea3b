"""Models in S3-compatible object storage load as if they were on the local disk.

`open` and `Volume` read a bucket through this machine's node, without a mount. What they raise is drawn in `headrace.errors`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace._engine import __version__
    from headrace.errors import (
        CacheFailure,
        CredentialFailure,
        HeadraceError,
        NodeFailure,
        NotFound,
        OriginFailure,
        PathNotFound,
        ReadFailure,
        Replaced,
        UsageError,
    )
    from headrace.sdk import Entry, File, Volume, WarmProgress, open  # noqa: A004 - headrace.open

__all__ = [
    "CacheFailure",
    "CredentialFailure",
    "Entry",
    "File",
    "HeadraceError",
    "NodeFailure",
    "NotFound",
    "OriginFailure",
    "PathNotFound",
    "ReadFailure",
    "Replaced",
    "UsageError",
    "Volume",
    "WarmProgress",
    "__version__",
    "open",
]

# Loaded when first asked for: the keeper and the commands import this package too, and need none of it.
_HOMES = {
    "headrace._engine": ("__version__",),
    "headrace.sdk": ("Entry", "File", "Volume", "WarmProgress", "open"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME.get(name, "headrace.errors")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
