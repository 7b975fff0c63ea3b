"""Fixtures: a control plane on each database, and its administrator."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.client import ControlClient
from headrace.testing.access import Access
from headrace.testing.control import RunningControl, control_plane
from headrace.testing.postgres import Postgres, postgres

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def database_server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """URL of an empty database; None is SQLite in the state directory."""
    if request.param == "sqlite":
        return None
    server: Postgres = request.getfixturevalue("database_server")
    return server.create_database(f"test{next(_NUMBERS)}")


@dataclass(frozen=True)
class Place:
    """A control plane, and its administrator."""

    control: RunningControl
    admin: ControlClient
    token: str = ""  # the administrator's

    def user(self, name: str, *scopes: str, lasts_seconds: int = 3600) -> ControlClient:
        """Somebody with a token of the role user."""
        made = self.admin.create_token({"name": "test", "subject": name, "scopes": list(scopes) or ["*"], "lasts_seconds": lasts_seconds})
        return self.control.client(made["token"])


MASTER_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.fixture
def place(tmp_path: Path, database: str | None) -> Iterator[Place]:
    with control_plane(tmp_path / "state", database, master_key=MASTER_KEY) as control:
        assert control.first_token is not None
        with control.client(control.first_token) as first:
            token = first.login()["token"]
        with control.client(token) as admin:
            yield Place(control, admin, token)


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


@pytest.fixture
def origins(server: Access) -> Origins:
    bucket = f"control-{next(_NUMBERS)}"
    server.create_bucket(bucket)
    server.put(bucket, "qwen/config.json", b"{}")
    server.put(bucket, "qwen/model.safetensors", bytes(range(256)))
    return Origins(server, bucket)
