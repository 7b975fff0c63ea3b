"""Fixtures: a real S3 server for the session, a headrace of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.testing.access import Access
from headrace.testing.seaweed import seaweed
from support.bucket import Bucket
from support.headrace import Headrace


@pytest.fixture(scope="session")
def server() -> Iterator[Access]:
    with seaweed() as running:
        yield running


@pytest.fixture
def bucket(server: Access, request: pytest.FixtureRequest) -> Bucket:
    return Bucket.create(server, request.node.name)


@pytest.fixture
def headrace(tmp_path: Path, server: Access) -> Iterator[Headrace]:
    own = Headrace(tmp_path, server.environment())
    yield own
    own.stop()
