"""A control plane to ask: a process of its own, that has something of everything, and can reach nothing.

What it has is made by another replica before, which may connect to an origin on this machine; the one that is asked may connect
to no address at all, and resolves no name.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.client import ControlClient
from headrace.control import settings
from headrace.control.server import new_admin_token
from headrace.testing.control import control_plane
from headrace.testing.nodes import TOLD, SimulatedNode
from headrace.testing.origin import failing_origin

_MASTER_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
_EVERYWHERE = "0.0.0.0/0,::/0"
_STOP_SECONDS = 30
_SNAPSHOT = b"a list of files"
_VOLUMES = ("qwen", "llama", "bert", "gemma")
# Keys of the volume there is, and keys to be sent: none may come back, but to a node that needs them.
PLANTED = ("planted-access-key-of-volume", "planted-secret-key-of-volume", "planted-session-token-of-volume")
SENT = ("planted-access-key-in-request", "planted-secret-key-in-request", "planted-session-token-in-request")


@dataclass(frozen=True)
class Asked:
    """A control plane that answers at `url`, and what is in it."""

    url: str
    tokens: Mapping[str, str]  # of an "admin" and a "user", and for nodes ("node"), for who joins ("enrol") or logs in ("login")
    known: Mapping[str, tuple[str, ...]]  # values that mean something, by the name of a parameter or a field
    log: Path

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no answer may hold. Of a token only its secret half: its ID is shown."""
        return (*PLANTED, *SENT, _MASTER_KEY, *(text.split("_", 2)[2] for text in self.tokens.values()))

    @property
    def spared(self) -> tuple[str, ...]:
        """What is not to be deleted, for then nobody could ask on."""
        return ("qwen", self.known["node"][0], *(text.split("_")[1] for text in self.tokens.values()))


@contextmanager
def asked(scratch: Path, database: str | None = None) -> Iterator[Asked]:
    """A control plane whose state is below a directory, on SQLite or on a database that is given."""
    state = scratch / "state"
    with control_plane(state, database, master_key=_MASTER_KEY) as before:
        assert before.first_token is not None
        with before.client(before.first_token) as first, before.client(str(first.login()["token"])) as admin:
            tokens, known = _furnished(admin)
    told = {"control_state": str(state), "control_database": database, "control_master_key": _MASTER_KEY}
    tokens["login"] = asyncio.run(new_admin_token(settings.load(told, {})))
    log = scratch / "log"
    with log.open("wb") as output, _process(state, database, output.fileno()) as url:
        yield Asked(url, tokens, known, log)


def _furnished(admin: ControlClient) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Makes a region, a node, and volumes that are accelerated; the tokens of who may ask, and what things are called."""
    tokens = {role: str(admin.create_token({"name": role, "subject": role, "role": role})["token"]) for role in ("admin", "user")}
    admin.create_region({"name": "zj-1"})
    tokens["node"] = _enrolled(admin)
    tokens["enrol"] = str(admin.create_join_token("zj-1")["token"])
    with failing_origin("bucket") as origin, admin.as_bearer(tokens["user"]) as owner, admin.as_bearer(tokens["node"]) as client:
        origin.bucket("bucket").put("models/config.json", b"{}")
        keys = dict(zip(("access_key", "secret_key", "session_token"), PLANTED, strict=True))
        said = {"endpoint": origin.access.endpoint, "bucket": "bucket", "directory": "models", "credentials": keys}
        volumes = [owner.create_volume({"name": name, **said}) for name in _VOLUMES]
        accelerations = [owner.start_acceleration(name, {"region": "zj-1"}) for name in _VOLUMES]
        node = SimulatedNode(client, "gpu-1")
        for name in _VOLUMES[:-1]:  # the last one waits for its list
            node.publish(name, _SNAPSHOT)
            node.hold(name)
    ids = {"node": _ids(admin.nodes()), "volume_id": _ids(volumes), "acceleration": _ids(accelerations), "token": _ids(admin.tokens())}
    names = {"volume": _VOLUMES, "region": ("zj-1", "cn-north-1"), "digest": (hashlib.sha256(_SNAPSHOT).hexdigest(),)}
    return tokens, {**ids, **names}


def _enrolled(admin: ControlClient) -> str:
    with admin.as_bearer(str(admin.create_join_token("zj-1")["token"])) as joining:
        return str(joining.enrol("gpu-1", {"gpu": "H800"}, TOLD)["token"])


def _ids(documents: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(str(document["id"]) for document in documents)


@contextmanager
def _process(state: Path, database: str | None, log: int) -> Iterator[str]:
    """The control plane's URL, as long as its process lives."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HEADRACE_"))}
    environment |= {"HOME": "/nonexistent", "HEADRACE_CONTROL_STATE": str(state), "HEADRACE_CONTROL_MASTER_KEY": _MASTER_KEY}
    environment |= {"HEADRACE_CONTROL_ORIGINS_DENY": _EVERYWHERE, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "fuzz.api.nowhere", "up", "--listen", "127.0.0.1:0", *(["--database", database] if database else [])]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            if not first.startswith("control plane: "):
                raise RuntimeError(f"the control plane does not start: {first or 'see its log'}")
            yield first.removeprefix("control plane: ").strip()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(_STOP_SECONDS)
