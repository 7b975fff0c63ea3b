"""Running it on a machine: doctor, fstab, systemd's way, the foreground."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.bucket import Bucket
from support.headrace import COMMAND, Headrace, wait_until

MIB = 1 << 20


def findings(headrace: Headrace, *arguments: str) -> dict[str, dict[str, str]]:
    done = headrace.run("doctor", "--json", *arguments, check=False)
    found = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == int(any(f["state"] == "failed" for f in found.values()))
    assert all(f["remedy"] for f in found.values() if f["state"] != "ok")
    return found


def test_doctor_on_a_good_day(headrace: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", MIB)
    found = findings(headrace, bucket.uri("m"))
    for what in ("/dev/fuse", "capabilities", "node", "configuration", "endpoint", "clock", "list", "ranged read"):
        assert found[what]["state"] == "ok", found[what]
    assert "1 files" in found["list"]["found"]
    assert not (headrace.base / "cache").exists(), "doctor changes nothing"


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "endpoint", "AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "notaurl"}, "endpoint", "AWS_ENDPOINT_URL"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "requests", "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_PROFILE": "nobody"}, "credentials", "AWS_PROFILE"),
        ({"HEADRACE_CACHE_DIR": "/proc/cache"}, "cache /proc/cache", "HEADRACE_CACHE_DIR"),
    ],
)
def test_doctor_names_what_is_wrong(headrace: Headrace, bucket: Bucket, change: dict[str, str], what: str, remedy: str) -> None:
    bucket.put("m/a", 1)
    headrace.environment |= change
    found = findings(headrace, bucket.uri("m"))
    assert found[what]["state"] == "failed"
    assert remedy in found[what]["remedy"]


def fstab(headrace: Headrace, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = str(Path(sys.executable).with_name("mount.headrace"))
    return subprocess.run([command, *arguments], env=headrace.environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_line_of_fstab(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", MIB)
    directory = headrace.base / "mnt"
    done = fstab(headrace, bucket.uri("m"), str(directory), "-v", "-o", "_netdev,nofail,x-systemd.automount,ro,pin,uid=7,file_mode=0440")
    assert done.returncode == 0, done.stderr
    assert "1 files" in done.stdout
    assert (directory / "a").read_bytes() == data
    assert ((directory / "a").stat().st_uid, (directory / "a").stat().st_mode & 0o777) == (7, 0o440)
    assert headrace.status()["mounts"][0]["pinned"]


@pytest.mark.parametrize("option", ["speed=high", "uid=me", "file_mode=9", "pin=yes", "endpoint"])
def test_a_wrong_option_of_fstab(headrace: Headrace, option: str) -> None:
    done = fstab(headrace, "s3://models/m", str(headrace.base / "mnt"), "-o", option)
    assert done.returncode == 2
    assert option.partition("=")[0].replace("_", " ") in done.stderr.replace("_", " ")
    assert not (headrace.base / "mnt").exists()


def ready(channel: socket.socket) -> bytes:
    channel.settimeout(30)
    return channel.recv(100)


def test_the_node_under_systemd(headrace: Headrace, bucket: Bucket, tmp_path: Path) -> None:
    data = bucket.put("m/a", MIB)
    one, two = tmp_path / "one", tmp_path / "two"
    (tmp_path / "config.toml").write_text(
        f'[[mounts]]\nsource = "s3://no-such-bucket/m"\ndirectory = "{two}"\n'
        f'[[mounts]]\nsource = "{bucket.uri("m")}"\ndirectory = "{one}"\npin = true\nallow_other = false\n'
    )
    headrace.environment |= {"HEADRACE_CONFIG": str(tmp_path / "config.toml"), "NOTIFY_SOCKET": str(tmp_path / "notify")}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        process = subprocess.Popen([COMMAND, "node"], env=headrace.environment, stderr=subprocess.PIPE, text=True)
        try:
            assert ready(channel) == b"READY=1"
            assert (one / "a").read_bytes() == data
            # Both killed at once: everything comes back by itself.
            status = headrace.status()["node"]
            os.kill(status["keeper_pid"], signal.SIGSTOP)
            os.kill(status["pid"], signal.SIGKILL)
            os.kill(status["keeper_pid"], signal.SIGKILL)
            wait_until("the mount is back", lambda: _reads(one / "a", data), 40)
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "no-such-bucket" in errors
    assert not os.path.ismount(one)
    wait_until("no node is left", lambda: headrace.status()["node"] is None)


def _reads(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


@pytest.mark.parametrize(("toml", "words"), [('[[mounts]]\ndirectory = "/x"\n', "number 1 needs source"), ("mounts = 5\n", "mounts is 5")])
def test_a_configuration_without_a_source(headrace: Headrace, tmp_path: Path, toml: str, words: str) -> None:
    (tmp_path / "config.toml").write_text(toml)
    headrace.environment["HEADRACE_CONFIG"] = str(tmp_path / "config.toml")
    done = headrace.run("node", check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_foreground(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", 1000)
    directory = headrace.base / "mnt"
    process = subprocess.Popen([COMMAND, "mount", bucket.uri("m"), str(directory), "--foreground"], env=headrace.environment)
    wait_until("the mount", lambda: os.path.ismount(directory))
    assert (directory / "a").read_bytes() == data
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert not os.path.ismount(directory)


def test_warm_by_patterns(headrace: Headrace, bucket: Bucket) -> None:
    for key in ("m/a.safetensors", "m/b.bin", "m/sub/c.safetensors", "m/sub/old/d.safetensors"):
        bucket.put(key, 100_000)
    directory = headrace.mount(bucket.uri("m"))

    def held() -> set[str]:
        return {entry["key"] for entry in json.loads(headrace.run("cache", "ls", "--json").stdout) if entry["complete"]}

    headrace.run("warm", str(directory / "sub"), "--include", "*.safetensors", "--exclude", "*/old/*")
    assert held() == {"m/sub/c.safetensors"}
    headrace.run("warm", str(directory), "--include", "*.safetensors")
    assert held() == {"m/a.safetensors", "m/sub/c.safetensors", "m/sub/old/d.safetensors"}
    done = headrace.run("warm", str(directory), "--include", "*.gguf", check=False)
    assert done.returncode == 3
    assert "*.gguf" in done.stderr


@pytest.mark.parametrize("command", [["warm"], ["cache", "evict"], ["cache", "pin"], ["cache", "unpin"]])
def test_a_path_that_is_not_there_is_told_with_its_mount(headrace: Headrace, bucket: Bucket, command: list[str]) -> None:
    """The message spoke of an engine, and of no mount."""
    bucket.put("m/a", 1000)
    directory = headrace.mount(bucket.uri("m"))
    done = headrace.run(*command, str(directory / "a"), str(directory / "nope"), check=False)
    assert done.returncode == 3
    assert f"no 'nope' in {directory} (snapshot v1)" in done.stderr
    assert f"`headrace refresh {directory}`" in done.stderr


def test_answers_for_programs(headrace: Headrace, bucket: Bucket) -> None:
    """These had none."""
    bucket.put("m/a", 1000)
    directory = str(headrace.mount(bucket.uri("m")))
    file = f"{directory}/a"
    headrace.run("warm", directory)

    def answer(*arguments: str) -> dict[str, object]:
        return dict(json.loads(headrace.run(*arguments, "--json").stdout))

    assert answer("cache", "pin", file) == {"files": 1}
    assert answer("cache", "unpin", file) == {"files": 1}
    assert answer("cache", "evict", file).keys() == {"bytes"}
    assert answer("credentials", directory) == {"expires": None}
    assert answer("rollback", directory, "v1") == {"directory": directory, "snapshot": "v1"}
    assert answer("umount", directory) == {"directory": directory}


def test_a_warm_up_that_can_not_fit_is_refused_beforehand(headrace: Headrace, bucket: Bucket) -> None:
    for index in range(3):
        bucket.put(f"m/{index}", 8 * MIB)
    headrace.environment["HEADRACE_CACHE_SIZE"] = "20Mi"
    directory = headrace.mount(bucket.uri("m"))
    done = headrace.run("warm", str(directory), check=False)
    assert done.returncode == 7
    assert "HEADRACE_CACHE_SIZE" in done.stderr
    assert headrace.counters()["origin_body_bytes_total"] == 0
    headrace.run("warm", str(directory / "0"), str(directory / "1"))
