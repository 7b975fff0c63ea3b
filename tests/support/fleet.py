"""Nodes of a region as processes, beside a control plane."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control.conftest import Origins, Place
from headrace.testing.seaweed import Seaweed
from support.headrace import COMMAND, Headrace, wait_until

WAIT = 60.0


@dataclass
class Fleet:
    """Nodes of a region, beside a control plane."""

    place: Place
    base: Path
    stack: ExitStack
    server: Seaweed

    def node(self, name: str, *, join: bool = True, **environment: str) -> Headrace:
        """A node that has joined; of the origin it knows only what the control plane says."""
        base = self.base / name
        base.mkdir()
        own = Headrace(base, environment)
        own.environment |= environment
        self.stack.callback(own.stop)
        if join:
            self.join(own, name)
        return own

    def join(self, own: Headrace, name: str, *options: str, url: str = "", token: str = "", region: str = "zj-1", check: bool = True) -> str:
        own.environment["HEADRACE_JOIN_TOKEN"] = token or self.place.admin.create_join_token(region)["token"]
        done = own.run("node", "join", url or self.place.control.url, "--name", name, *options, check=check)
        del own.environment["HEADRACE_JOIN_TOKEN"]
        return done.stdout + done.stderr

    def start_again(self, own: Headrace) -> None:
        """A node that ended, as systemd would."""
        process = subprocess.Popen([COMMAND, "node"], env=own.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.stack.callback(process.wait, 30)
        self.stack.callback(process.terminate)
        until("the node is back", lambda: own.run("status", check=False).returncode == 0 and own.processes())

    def volume(self, origins: Origins, name: str = "qwen", **changes: object) -> None:
        self.place.admin.create_volume(origins.volume(name, **changes))

    def start(self, name: str = "qwen", **more: object) -> None:
        self.place.admin.start_acceleration(name, {"region": "zj-1", **more})

    def shown(self, name: str = "qwen", region: str = "zj-1") -> dict[str, Any]:
        return dict(self.place.admin.acceleration(name, region))

    def until(self, state: str, name: str = "qwen", seconds: float = WAIT, region: str = "zj-1") -> dict[str, Any]:
        """Waits for a state."""
        try:
            return dict(until(f"{name} is {state}", lambda: shown if (shown := self.shown(name, region))["state"] == state else None, seconds))
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.shown(name, region)}") from None

    def sent(self, bucket: str) -> int:
        return self.server.sent_bytes(bucket)


def until(what: str, condition: Callable[[], Any], seconds: float = WAIT) -> Any:
    """Waits for a condition."""
    return wait_until(what, condition, seconds)
