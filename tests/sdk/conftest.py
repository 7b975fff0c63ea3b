"""The SDK speaks for the process it is in: these tests run in the environment of their own headrace."""

from __future__ import annotations

import pytest

from support.headrace import Headrace


@pytest.fixture
def here(headrace: Headrace, monkeypatch: pytest.MonkeyPatch) -> Headrace:
    """A headrace whose environment is this process's own."""
    for name, value in headrace.environment.items():
        if name.startswith(("AWS_", "HEADRACE_")):
            monkeypatch.setenv(name, value)
    return headrace
