"""`headrace task run` as a process: whoever starts it, with what environment, and what it said."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.fleet import Fleet, until
from support.headrace import COMMAND, Headrace

# A command that tells when it runs, and ends when its input does.
WAITING = ("sh", "-c", "echo begun; read line")


@dataclass
class Job:
    """A started command."""

    process: subprocess.Popen[str]

    def begun(self) -> Job:
        """Waits for the command's first words."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "begun\n", (line, self.process.communicate(timeout=30))
        return self

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def ask(self, text: str) -> str:
        """A line of the command's input, and one of its output."""
        self.say(text)
        return self.line()

    def end(self) -> tuple[int, str, str]:
        """Closes the input; exit code and what it said."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@dataclass
class Jobs:
    """Starts tasks beside a node."""

    fleet: Fleet
    own: Headrace
    stack: ExitStack
    prefix: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str) -> Job:
        """`headrace task` with these arguments."""
        return self.process(COMMAND, "task", *arguments)

    def process(self, *command: str) -> Job:
        """Any command, in the same environment."""
        control = {"HEADRACE_CONTROL_URL": self.fleet.place.control.url, "HEADRACE_TOKEN": self.token()}
        process = subprocess.Popen(
            [*self.prefix, *command],
            env={**self.own.environment, **control, **self.environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
        )  # fmt: skip
        self.stack.callback(_killed, process)
        return Job(process)

    def run(self, *mounts: str | Path, command: Sequence[str], region: str = "zj-1", options: Sequence[str] = ()) -> Job:
        """`headrace task run`, each mount as it is written."""
        said = [part for mount in mounts for part in ("--mount", str(mount))]
        return self.start("run", "--region", region, *said, *options, "--", *command)

    def refused(self, *mounts: str, command: Sequence[str] = ("true",), **more: Any) -> tuple[int, str]:
        """Of a task that does not come about: exit code and message."""
        code, out, err = self.run(*mounts, command=command, **more).end()
        assert (code != 0, out) == (True, ""), (code, out, err)
        return code, err

    def token(self) -> str:
        return self.fleet.place.token

    def tasks(self, **filters: str) -> list[dict[str, Any]]:
        return list(self.fleet.place.admin.tasks(**filters))

    def one(self) -> dict[str, Any]:
        """The task that is alive."""
        (task,) = self.tasks(ended="false")
        return task

    def task(self, identifier: str) -> dict[str, Any]:
        return self.fleet.place.admin.task(identifier)

    def none_left(self) -> None:
        """Waits until no task is alive, and nothing is mounted."""
        until("no task is alive", lambda: not self.tasks(ended="false"))
        until("nothing is mounted", lambda: not self.own.status()["mounts"])


def _killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(30)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None and not pipe.closed:
            pipe.close()
