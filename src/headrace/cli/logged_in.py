"""The control plane that this user is logged in to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.client import ControlClient


def control() -> ControlClient:
    """The control plane that this user is logged in to."""
    # An HTTP client takes a tenth of a second to load: commands that need none don't wait for it.
    from headrace.client import ControlClient, remembered

    login = remembered()
    return ControlClient(login.url, login.token, certificates=login.certificates, language=language())


def language() -> str:
    """`zh` where the locale is Chinese, else `en`."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if locale.lower().startswith("zh") else "en"
