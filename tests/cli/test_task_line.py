"""The line of `task run` means the same however it is read, and paths are judged by their names."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace import settings as configuration
from headrace.cli import reach, task_line, task_run
from headrace.cli.app import app
from headrace.cli.task_line import Line, mount_of
from headrace.errors import UsageError
from headrace.mount_paths import SYSTEM
from headrace.node.task_paths import allowed_roots, checked_paths

BOTH = [
    ["--region", "zj-1", "--mount", "qwen:/mnt/a", "--", "python", "-m", "x", "--follow"],
    ["--region=zj-1", "--mount=qwen:/mnt/a", "--mount", "qwen@v3:/mnt/b", "--follow", "python", "--region", "x"],
    ["--mount", "qwen:/mnt/a", "--region", "a", "--region", "b", "--name", "n", "--wait-seconds", "2.5", "--times", "--", "--", "x"],
    ["--region", "zj-1", "--mount", "a:/b=c", "--name=", "--wait-seconds", "0", "true"],
    ["--region", "zj-1", "--mount", "千问@v3:/mnt/千问", "sh", "-c", "exit 3", "--"],
]
WHOLE = ["--region", "zj-1", "--mount", "a:/b"]
LEFT = [
    [], ["--help"], ["--region", "zj-1"], WHOLE, [*WHOLE, "--"], ["--region"], [*WHOLE, "--wait-seconds", "soon", "true"],
    [*WHOLE, "--wait-seconds", "nan", "true"], [*WHOLE, "--wait-seconds", "4000", "true"], [*WHOLE, "--unknown", "true"],
    ["--follow=1", *WHOLE, "true"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", BOTH, ids=" ".join)
def test_read_at_once_a_line_is_what_it_is_otherwise(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Line] = []
    monkeypatch.setattr(task_run, "begin", seen.append)
    done = CliRunner().invoke(app, ["task", "run", *arguments])
    assert done.exit_code == 0, done.output
    assert seen == [task_line.read(arguments)]


@pytest.mark.parametrize("arguments", LEFT, ids=" ".join)
def test_what_is_not_plainly_right_is_left_to_typer(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_run, "begin", lambda _: pytest.fail("it was begun"))
    assert task_line.read(arguments) is None
    done = CliRunner().invoke(app, ["task", "run", *arguments])
    assert done.exit_code == (0 if arguments == ["--help"] else 2), done.output


def test_a_mount_as_it_is_written() -> None:
    assert mount_of("qwen@v3:/mnt/a:b", follow=True) == {"volume": "qwen", "version": "v3", "path": "/mnt/a:b", "follow": False}
    assert mount_of("qwen", follow=True) == {"volume": "qwen", "path": None, "follow": True}
    for wrong in ("", ":/mnt/a", "@v3:/mnt/a", "qwen@:/mnt/a", "qwen:"):
        with pytest.raises(UsageError, match="VOLUME"):
            mount_of(wrong, follow=False)


ROOTS = ("/mnt", "/models", "/home/me")


def test_paths_in_the_kernels_spelling() -> None:
    assert checked_paths(["/mnt/./a//b/", "/models", "/home/me/.cache/huggingface"], ROOTS) == ["/mnt/a/b", "/models", "/home/me/.cache/huggingface"]


@pytest.mark.parametrize(
    "paths",
    [["mnt/a"], [""], ["/mnt/../etc"], ["/mnt/a\0b"], ["/mnt/a\nb"], ["/mnt/\udcff"], ["/mnt/" + "x" * 1100], ["/mntx"], ["/home/you"], ["/home"],
     ["/mnt/a", "/mnt/a"], ["/mnt/a", "/mnt/a/b"], ["/mnt/a/b", "/mnt/b", "/mnt/a"]],
)  # fmt: skip
def test_paths_that_are_refused(paths: list[str]) -> None:
    with pytest.raises(UsageError, match=r"^mount: .*; "):
        checked_paths(paths, ROOTS)


@pytest.mark.parametrize("system", ["/", *SYSTEM])
def test_the_system_is_covered_by_nobody_whatever_is_allowed(system: str) -> None:
    for path in (system, f"{system}/x"):
        if path.strip("/") in ("", "x") and system == "/" and path != "/":
            continue
        with pytest.raises(UsageError, match="would cover"):
            checked_paths([path], ("/", system))


def test_names_that_only_begin_alike_lie_beside_each_other() -> None:
    assert checked_paths(["/mnt/a", "/mnt/ab", "/etcetera"], ("/mnt", "/etcetera")) == ["/mnt/a", "/mnt/ab", "/etcetera"]


def test_the_home_is_what_the_system_says() -> None:
    assert "/root" in allowed_roots(("/mnt",), 0)
    assert allowed_roots(("/mnt",), 987_654) == ("/mnt",)
    assert os.environ.get("HOME", "") in allowed_roots((), os.geteuid())


def test_the_sockets_of_other_nodes_are_those_for_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that asked another of a node's sockets would wait there for words that it understands."""
    for name in ("HEADRACE_NODE", "HEADRACE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("node-1.sock", "node-1.data.sock", "node-1.task.sock", "node-2.sock", "node-2.task.sock"):
        (tmp_path / name).touch()
    own = dataclasses.replace(configuration.load(), socket=str(tmp_path / "node-1.sock"))
    assert [other.socket for other in reach.others(own)] == [str(tmp_path / "node-2.sock")]
