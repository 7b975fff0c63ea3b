"""Fixtures: a control plane on each database, and its administrator."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace.client import ControlClient
from headrace.control.app import create_app
from headrace.testing.access import Access
from headrace.testing.control import RunningControl, control_plane
from headrace.testing.postgres import Postgres, postgres

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def database_server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(scope="session")
def empty_databases() -> list[str]:
    """URLs of databases of that server that a test has had, emptied."""
    return []


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, empty_databases: list[str]) -> Iterator[str | None]:
    """URL of an empty database; None is SQLite in the state directory."""
    if request.param == "sqlite":
        yield None
        return
    server: Postgres = request.getfixturevalue("database_server")
    url = empty_databases.pop() if empty_databases else server.create_database(f"test{secrets.token_hex(6)}")
    yield url
    server.empty_database(url)
    empty_databases.append(url)


@dataclass(frozen=True)
class Place:
    """A control plane, and its administrator."""

    control: RunningControl
    admin: ControlClient
    token: str = ""  # the administrator's

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """The description of its API."""
        return create_app(self.control.plane).openapi()

    def routes(self) -> list[tuple[str, str]]:
        """Methods and paths, with their parameters as they are."""
        return [(method.upper(), path) for path, methods in self.document["paths"].items() for method in methods]

    def user(self, name: str, *scopes: str, lasts_seconds: int = 3600) -> ControlClient:
        """Somebody with a token of the role user."""
        made = self.admin.create_token({"name": "test", "subject": name, "scopes": list(scopes) or ["*"], "lasts_seconds": lasts_seconds})
        return self.control.client(made["token"])


MASTER_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@contextmanager
def open_place(state: Path, database: str | None) -> Iterator[Place]:
    """A control plane whose state is in a directory, and its administrator."""
    with control_plane(state, database, master_key=MASTER_KEY) as control:
        assert control.first_token is not None
        with control.client(control.first_token) as first:
            token = first.login()["token"]
        with control.client(token) as admin:
            yield Place(control, admin, token)


@pytest.fixture
def place(tmp_path: Path, database: str | None) -> Iterator[Place]:
    with open_place(tmp_path / "state", database) as own:
        yield own


@pytest.fixture(scope="session")
def common_on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("common") / "state", None) as common:
        yield common


@pytest.fixture(scope="session")
def common_on_postgresql(tmp_path_factory: pytest.TempPathFactory, database_server: Postgres) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("common") / "state", database_server.create_database("common")) as common:
        yield common


@pytest.fixture(params=DATABASES)
def common(request: pytest.FixtureRequest) -> Iterator[Place]:
    """One that many tests share, for those that leave its clock and its settings alone, and nothing behind but tokens."""
    place: Place = request.getfixturevalue(f"common_on_{request.param}")
    yield place
    assert not place.control.clock._ahead, "others would have another time"
    assert [*place.admin.volumes(), *place.admin.regions(), *place.admin.nodes()] == [], "others would find it"


@dataclass(frozen=True)
class Origins:
    """Says volumes in a bucket of the real server."""

    access: Access
    bucket: str

    def volume(self, name: str, /, **changes: object) -> dict[str, object]:
        """What to register."""
        said: dict[str, object] = {
            "name": name,
            "endpoint": self.access.endpoint,
            "bucket": self.bucket,
            "directory": "qwen",
            "credentials": {"access_key": self.access.access_key, "secret_key": self.access.secret_key},
        }
        return said | changes


def new_origins(server: Access) -> Origins:
    """A bucket with two files in a directory."""
    bucket = f"control-{secrets.token_hex(6)}"
    server.create_bucket(bucket)
    server.put(bucket, "qwen/config.json", b"{}")
    server.put(bucket, "qwen/model.safetensors", bytes(range(256)))
    return Origins(server, bucket)


@pytest.fixture
def origins(server: Access) -> Origins:
    return new_origins(server)
