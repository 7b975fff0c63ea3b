"""The commands, against a control plane that was started by one."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from control.conftest import Origins
from headrace.client import ControlClient, remembered
from headrace.testing.nodes import SimulatedNode
from support.headrace import COMMAND, wait_until


@dataclass(frozen=True)
class Shell:
    """Runs commands as one user of one control plane."""

    environment: dict[str, str]
    url: str
    token: str

    def __call__(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | more
        return subprocess.run([COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


@pytest.fixture
def shell(tmp_path: Path, origins: Origins) -> Iterator[Shell]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HEADRACE_", "LC_", "LANG"))}
    keys = {"AWS_ACCESS_KEY_ID": origins.access.access_key, "AWS_SECRET_ACCESS_KEY": origins.access.secret_key}
    environment = {**clean, **keys, "HOME": str(tmp_path), "HEADRACE_CONTROL_STATE": str(tmp_path / "state")}
    environment["HEADRACE_CONTROL_ORIGINS_ALLOW"] = "127.0.0.0/8"
    environment.pop("XDG_CONFIG_HOME", None)
    with subprocess.Popen(
        [COMMAND, "up", "--listen", "127.0.0.1:0"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().removeprefix("control plane: ").strip()
            text = "".join(server.stdout.readline() for _ in range(5))
            found = re.search(r"hr_\S+", text)
            assert found, text
            yield Shell(environment, url, found[0])
        finally:
            server.send_signal(signal.SIGINT)
            _, log = server.communicate(timeout=30)
            assert "Traceback" not in log


def test_a_first_hour(shell: Shell, origins: Origins, tmp_path: Path) -> None:
    none = shell("volume", "ls")
    assert (none.returncode, "headrace login" in none.stderr) == (4, True)
    done = shell("login", shell.url, HEADRACE_TOKEN=shell.token)
    assert done.returncode == 0, done.stderr
    kept = tmp_path / ".config/headrace/login.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert shell.token not in kept.read_text()

    where = ("--endpoint", origins.access.endpoint, "--bucket", origins.bucket)
    tried = shell("volume", "add", "qwen", *where, "--directory", "qwen", "--check")
    assert (tried.returncode, "passed" in tried.stdout) == (0, True), tried.stderr
    assert json.loads(shell("volume", "ls", "--json").stdout) == []
    made = shell("volume", "add", "qwen", *where, "--directory", "qwen")
    assert made.returncode == 0, made.stderr
    assert "qwen" in shell("volume", "ls").stdout
    assert origins.access.secret_key not in shell("volume", "show", "qwen").stdout
    assert "passed" in shell("volume", "check", "qwen").stdout
    assert shell("volume", "edit", "qwen", "--requests", "50").returncode == 0
    assert json.loads(shell("volume", "show", "qwen", "--json").stdout)["requests"] == 50
    assert shell("volume", "rotate", "qwen").returncode == 0

    user = shell("token", "create", "ci", "--for", "alice", "--scope", "volumes:read").stdout.strip()
    as_alice = {"HEADRACE_CONTROL_URL": shell.url, "HEADRACE_TOKEN": user}
    assert shell("volume", "ls", **as_alice).stdout.strip().startswith("no volumes")
    assert shell("volume", "rm", "qwen", **as_alice).returncode == 4
    tokens = json.loads(shell("token", "ls", "--json").stdout)
    alices = next(token["id"] for token in tokens if token["subject"] == "alice")
    assert shell("token", "revoke", alices).returncode == 0
    assert shell("volume", "ls", **as_alice).returncode == 4

    assert shell("volume", "rm", "qwen").returncode == 0
    kinds = [event["kind"] for event in json.loads(shell("events", "--noun", "volume", "--json").stdout)]
    assert kinds == ["volume-deleted", "credentials-rotated", "volume-edited", "volume-checked", "volume-created"]


def test_refusals_are_told_with_their_fields(shell: Shell, origins: Origins) -> None:
    assert shell("login", shell.url, HEADRACE_TOKEN=shell.token).returncode == 0
    where = ("--endpoint", origins.access.endpoint, "--bucket", origins.bucket)
    root = shell("volume", "add", "qwen", *where)
    assert root.returncode == 2
    assert "directory: the whole bucket would be accelerated" in root.stderr
    chinese = shell("volume", "add", "qwen", *where, LANG="zh_CN.UTF-8")
    assert "将加速整个存储桶" in chinese.stderr
    keys = shell("volume", "add", "qwen", *where, "--directory", "qwen", AWS_ACCESS_KEY_ID="nobody", AWS_SECRET_ACCESS_KEY="planted-secret")
    assert keys.returncode == 2
    assert "access_key: " in keys.stderr
    assert "planted-secret" not in keys.stdout + keys.stderr
    nothing = shell("volume", "add", "qwen", *where, AWS_ACCESS_KEY_ID="")
    assert (nothing.returncode, "--anonymous" in nothing.stderr) == (2, True)
    away = shell("volume", "ls", HEADRACE_CONTROL_URL="http://127.0.0.1:9", HEADRACE_TOKEN="x")
    assert (away.returncode, "headrace up" in away.stderr) == (5, True)
    taken = shell("up", "--listen", shell.url.removeprefix("http://"))
    assert taken.returncode == 1
    assert "end what listens there" in taken.stderr


def test_an_acceleration_by_commands(shell: Shell, origins: Origins) -> None:
    assert shell("login", shell.url, HEADRACE_TOKEN=shell.token).returncode == 0
    assert shell("volume", "add", "qwen", "--endpoint", origins.access.endpoint, "--bucket", origins.bucket, "--directory", "qwen").returncode == 0
    assert shell("region", "add", "zj-1", "--title-zh", "浙江一区").returncode == 0
    none = shell("accelerate", "qwen", "--region", "zj-1")
    assert (none.returncode, "no node of zj-1" in none.stderr) == (6, True)
    login = remembered(shell.environment)
    with ControlClient(login.url, login.token) as admin:
        node = SimulatedNode.join(admin, "zj-1", "gpu-1")
    with node.client:
        started = shell("accelerate", "qwen", "--region", "zj-1", "--include", "*.safetensors")
        assert (started.returncode, started.stdout) == (0, "qwen@zj-1 is syncing\n"), started.stderr
        assert shell("usage").stdout == "nothing was held or read in that time\n"
        node.publish("qwen", b"list 1")
        node.hold("qwen")
        listed = shell("accelerations").stdout.splitlines()
        assert listed[1].split() == ["qwen", "zj-1", "active", "yes", "v1", "100", "B"]
        assert "加速中" in shell("accelerations", LANG="zh_CN.UTF-8").stdout
        node.move("qwen", 3 << 20, 2 << 10)
        node.move("qwen", 3 << 20, 2 << 10, 7)
        head, row = shell("usage").stdout.splitlines()
        assert head.split() == ["DAY", "VOLUME", "REGION", "HELD", "MOST", "ORIGIN", "SERVED", "OPENED"]
        assert (row.split()[1:3], row.split()[-6:]) == (["qwen", "zj-1"], ["3.0", "MiB", "2.0", "KiB", "7", "B"])
        assert shell("usage", "--hours", "--region", "zj-1", "--volume", "qwen").stdout.splitlines()[0].split()[0] == "HOUR"
        (hour,) = json.loads(shell("usage", "--json").stdout)
        assert (hour["origin_bytes"], hour["served_bytes"], hour["opened_bytes"]) == (3 << 20, 2 << 10, 7)
        assert shell("refresh", "qwen", "--region", "zj-1").stdout == "qwen@zj-1 is syncing at v1, 100 B held\n"
        node.publish("qwen", b"list 2")
        node.hold("qwen")
        assert [line.split()[0] for line in shell("versions", "qwen", "--region", "zj-1").stdout.splitlines()] == ["VERSION", "v1", "v2"]
        assert shell("rollback", "qwen", "v1", "--region", "zj-1").stdout == "qwen@zj-1 is at v1\n"
        assert shell("release", "qwen", "--region", "zj-1").returncode == 0
        wrong = shell("accelerate", "qwen", "--region", "zj-1", "--label", "gpu")
        assert (wrong.returncode, "KEY=VALUE" in wrong.stderr) == (2, True)
        assert node.items() == {}


def test_a_check_by_a_region(shell: Shell, origins: Origins) -> None:
    assert shell("login", shell.url, HEADRACE_TOKEN=shell.token).returncode == 0
    assert shell("region", "add", "zj-1").returncode == 0
    volume = ("qwen", "--endpoint", "s3.inside.invalid", "--bucket", "models", "--directory", "qwen", "--from", "zj-1")
    none = shell("volume", "add", *volume)
    assert (none.returncode, "no node of zj-1 ran the connection check" in none.stderr) == (5, True)
    assert "zj-1 没有节点完成连接校验" in shell("volume", "add", *volume, LANG="zh_CN.UTF-8").stderr
    login = remembered(shell.environment)
    with ControlClient(login.url, login.token) as admin:
        node = SimulatedNode.join(admin, "zj-1", "gpu-1")
    with node.client, ThreadPoolExecutor(1) as pool:

        def done(*command: str) -> subprocess.CompletedProcess[str]:
            call = pool.submit(shell, "volume", *command)
            (asked,) = wait_until("it is asked", node.checks)
            node.client.answer_check(asked["id"], {"lease": asked["lease"], "passed": True, "findings": []})
            return call.result(30)

        assert "checked from node zj-1/gpu-1" in done("add", *volume).stdout
        assert "from node zj-1/gpu-1" in shell("volume", "show", "qwen").stdout
        assert done("check", "qwen", "--from", "zj-1").stdout == "checked from node zj-1/gpu-1: passed\n"
        assert "checked from node zj-1/gpu-1" in done("edit", "qwen", "--requests", "5", "--from", "zj-1").stdout
        assert "checked from node zj-1/gpu-1" in done("rotate", "qwen", "--from", "zj-1").stdout
    here = shell("volume", "check", "qwen")
    assert (here.returncode, "checked from the control plane: failed" in here.stdout, "check_region" in here.stdout) == (1, True, True)
    only = shell("volume", "edit", "qwen", "--from", "zj-1")
    assert (only.returncode, "nothing to change" in only.stderr) == (2, True)
