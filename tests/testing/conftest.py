"""A failing origin of each test's own, and a botocore client that tries once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headrace.testing.origin import Origin, failing_origin


@pytest.fixture
def origin() -> Iterator[Origin]:
    with failing_origin("b") as running:
        yield running


@pytest.fixture
def client(origin: Origin) -> Any:
    return origin.access.client(retries=1, timeout=10)
