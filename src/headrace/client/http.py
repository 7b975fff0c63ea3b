"""httpx, without what only its own command needs.

That command prints with colours, and what it loads for them is a third of all that httpx loads. httpx does without where it is not
installed, which is what None among the modules says.
"""

from __future__ import annotations

import sys

_ITS_COMMAND = "httpx._main"

_absent = _ITS_COMMAND not in sys.modules
if _absent:
    sys.modules[_ITS_COMMAND] = None  # type: ignore[assignment]
try:
    import httpx
finally:
    if _absent:
        del sys.modules[_ITS_COMMAND]

__all__ = ["httpx"]
