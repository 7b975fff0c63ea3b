"""A control plane with one region, whose nodes are real ones on this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.objects import BUCKET
from bench.place import Place
from bench.seats import Route
from bench.service.replicas import Replicas, replicas
from bench.systems.headrace import Headrace
from headrace.client import ControlClient
from headrace.testing.waiting import wait_until

NAME = "zj-1"
_SECONDS = 300.0


@dataclass
class Region:
    """Made by `region()`."""

    place: Place
    control: Replicas
    admin: ControlClient

    @contextmanager
    def node(self, name: str, route: Route | None = None) -> Iterator[Headrace]:
        """A node that has joined; its tasks may mount below the place's directory."""
        with self.place.headrace(route=route, settings={"HEADRACE_TASK_PATHS": str(self.place.directory)}) as system:
            token = str(self.admin.create_join_token(NAME)["token"])
            system.run("node", "join", self.control.all[0].url, "--name", name, HEADRACE_JOIN_TOKEN=token)
            try:
                yield system
            finally:
                for task in self.admin.tasks(ended="false"):
                    self.admin.end_task(task["id"])
                self.wait("no task mounts anything", lambda: not system.status()["mounts"])

    def register(self, volume: str, directory: str, route: Route | None = None) -> None:
        """A volume in the bench's bucket; its connection is checked for real."""
        access = (route or self.place.route).access
        keys = {"access_key": access.access_key, "secret_key": access.secret_key}
        said = {"name": volume, "endpoint": access.endpoint, "bucket": BUCKET, "directory": directory, "credentials": keys}
        self.admin.create_volume(said)

    def accelerate(self, volume: str) -> dict[str, Any]:
        """Until it is active on every node."""
        self.admin.start_acceleration(volume, {"region": NAME})
        self.wait(f"{volume} is active", lambda: self.shown(volume)["state"] != "syncing")
        shown = self.shown(volume)
        if shown["state"] != "active" or shown["bytes_held"] != shown["bytes_total"]:
            raise RuntimeError(f"{volume} is {shown['state']}, {shown['reason']}")
        return shown

    def shown(self, volume: str) -> dict[str, Any]:
        return dict(self.admin.acceleration(volume, NAME))

    def task(self, node: Headrace, mounts: Mapping[str, Path], command: Sequence[str], **environment: str) -> subprocess.Popen[str]:
        """`headrace task run` as a process, its output as text."""
        said = [part for volume, path in mounts.items() for part in ("--mount", f"{volume}:{path}")]
        url = {"HEADRACE_CONTROL_URL": self.control.all[0].url, "HEADRACE_TOKEN": self.control.token}
        line = node.command("task", "run", "--region", NAME, *said, "--", *command)
        return subprocess.Popen(
            line, env={**node.environment, **url, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait(self, what: str, condition: Any, *, every: float = 0.1) -> None:
        wait_until(condition, what, timeout=_SECONDS, every=every)


@contextmanager
def region(place: Place) -> Iterator[Region]:
    """A control plane of one replica, as `headrace up` has it on one machine: on SQLite."""
    with place.base("control") as base, replicas(base) as control, control.client() as admin:
        admin.create_region({"name": NAME})
        yield Region(place, control, admin)


def ended(process: subprocess.Popen[str], seconds: float = _SECONDS) -> str:
    """What a process printed. RuntimeError with what it complained of when it fails."""
    out, complaint = process.communicate(timeout=seconds)
    if process.returncode:
        raise RuntimeError(f"{os.path.basename(str(process.args[0]))} ended with {process.returncode}: {complaint[-2000:]}")  # type: ignore[index]
    return out
