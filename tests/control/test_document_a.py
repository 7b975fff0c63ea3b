"""The walk through document A, from a bucket to tasks on GPU machines and back, on both databases.

Real: two SeaweedFS servers as two providers, one addressed by path, the other by host names (`BUCKET.s3.test`); three nodes as processes in two
regions, with their caches and mounts; tasks by `headrace task run`; and transformers, which loads a model's configuration, tokenizer and weights'
place offline from the accelerated directory of a hub cache, its weights read by safetensors. The weights are small and made up, and nothing
computes with them: torch would be gigabytes. Set by the test: the names below `s3.test`, which lead to this machine for the control plane by its
resolver and for nodes by a hosts file of their own (in a mount namespace, so that the machine's is untouched); the clock of the control plane,
which is set forward by days; and how often nodes are heard (every second), so that they are soon after that. A node answers its
neighbours nothing yet: each holds its own copy, so "without the origin" is shown for each node.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from control.conftest import Place
from headrace.client import ControlClient, ControlFailure
from headrace.control import background
from headrace.control.hearing import FIRST_SECONDS
from headrace.control.nodes import service as nodes
from headrace.testing.seaweed import Seaweed, seaweed
from support import hub
from support.fleet import Fleet, until
from support.headrace import Headrace
from support.jobs import Job, Jobs
from support.relay import Gate, address, gate

DOMAIN = "s3.test"
BUCKET = "models"
BY_PATH, BY_HOST = "qwen", "bert"  # volumes, by how their provider is addressed
HUB = "team/qwen1-5/hub"
WEIGHTS_MIB = 2
BERT = {"bert/vocab.txt": b"water\n", "bert/weights.bin": bytes(range(256)) * 64}
NODES = {"gpu-1": "zj-1", "gpu-2": "zj-1", "gpu-3": "bj-1"}
# The whole walk takes seconds, but for what the clock is set forward.
LASTS_SECONDS = 60 * 86_400
DAY = timedelta(days=1)
# Answers each line of its input: a file's content in one line, or why there is none.
READING = ("sh", "-c", 'echo begun; while read file; do echo "$(cat "$file" 2>&1)"; done')
# What every way to write says.
WRITING = """
import errno, os, sys
os.chdir(sys.argv[1])
for write in (lambda: open("new", "w"), lambda: open("vocab.txt", "r+"), lambda: os.mkdir("d"), lambda: os.unlink("vocab.txt"),
              lambda: os.rename("vocab.txt", "other"), lambda: os.chmod("vocab.txt", 0o777), lambda: os.truncate("vocab.txt", 0),
              lambda: os.symlink("a", "b"), lambda: os.utime("vocab.txt")):
    try:
        write()
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


@pytest.fixture(scope="module")
def by_host() -> Iterator[Seaweed]:
    """The second provider."""
    with seaweed(domain=DOMAIN) as running:
        yield running


@dataclass
class Walk:
    """What the steps share. Each leaves behind what the next begins with."""

    fleet: Fleet
    ann: ControlClient
    jobs: dict[str, Jobs]  # by node
    said: dict[str, dict[str, Any]]  # volumes, as they are registered
    servers: dict[str, tuple[Seaweed, str]]  # the provider of each, and its bucket there
    way: Gate
    models: dict[str, bytes]  # the files of `qwen`
    kept: list[Job] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(map(len, self.models.values()))

    def put(self, name: str, content: bytes) -> None:
        server, bucket = self.servers[BY_PATH]
        server.put(bucket, f"{HUB}/{name}", content)

    def sent(self, volume: str = BY_PATH) -> int:
        server, bucket = self.servers[volume]
        return server.sent_bytes(bucket)

    def forward(self, by: timedelta) -> None:
        """Sets the clock, and does what replicas do every few seconds."""
        self.fleet.place.control.clock.advance(by)
        self.fleet.place.control.plane.hearing.since -= FIRST_SECONDS
        for work in (background.sweep_accelerations, background.sweep_jobs, background.expire_leases, background.count_usage):
            asyncio.run_coroutine_threadsafe(work(self.fleet.place.control.plane), self.fleet.place.control.loop).result(30)

    def heard(self) -> None:
        """Waits until all nodes have been heard, by the clock that was set forward."""
        until("nodes are heard", lambda: all(node["state"] != "lost" for node in self.fleet.place.admin.nodes()))

    def node(self, name: str) -> dict[str, Any]:
        return next(node for node in self.fleet.place.admin.nodes() if node["name"] == name)

    def usage(self, region: str) -> int:
        """加速用量 of `qwen`: the most that was held there in any hour."""
        return max((hour["bytes_max"] for hour in self.ann.usage(volume=BY_PATH, region=region)), default=0)

    def events(self, region: str) -> list[dict[str, Any]]:
        """What happened to `qwen` there, oldest first."""
        return [event for event in self.ann.events(noun="acceleration") if event["object_name"] == f"{BY_PATH}@{region}"][::-1]


@pytest.fixture
def walk(
    place: Place, tmp_path: Path, server: Seaweed, by_host: Seaweed, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Walk]:
    monkeypatch.setattr(nodes, "HEARTBEAT_SECONDS", 1)
    bucket = f"{BUCKET}-{'postgresql' if 'postgresql' in request.node.name else 'sqlite'}"
    _names_of_their_own(monkeypatch, tmp_path / "hosts", f"{bucket}.{DOMAIN}")
    models = hub.files(WEIGHTS_MIB)
    for one, prefix, files in ((server, f"{HUB}/", models), (by_host, "", BERT)):
        one.create_bucket(bucket)
        for name, content in files.items():
            one.put(bucket, f"{prefix}{name}", content)
    place.admin.create_region({"name": "zj-1", "title": "Zhejiang 1", "title_zh": "浙江一区"})
    place.admin.create_region({"name": "bj-1", "title": "Beijing 1", "title_zh": "北京一区"})
    token = place.admin.create_token({"name": "ann", "subject": "ann", "scopes": ["*"], "lasts_seconds": LASTS_SECONDS})["token"]
    with ExitStack() as stack:
        ann = stack.enter_context(place.control.client(token))
        fleet = Fleet(place, tmp_path, stack, server)
        jobs = {name: Jobs(fleet, _node(fleet, name, region), stack) for name, region in NODES.items()}
        for one in jobs.values():
            one.environment["HEADRACE_TOKEN"] = token
        way = stack.enter_context(gate(address(server.endpoint), hub.WEIGHTS))
        keys = {"access_key": server.access_key, "secret_key": server.secret_key}
        common = {"bucket": bucket, "credentials": keys}
        port = urlsplit(by_host.endpoint).port
        said: dict[str, dict[str, Any]] = {
            BY_PATH: {**common, "name": BY_PATH, "endpoint": way.url, "addressing": "path", "directory": HUB},
            BY_HOST: {**common, "name": BY_HOST, "endpoint": f"http://{DOMAIN}:{port}", "addressing": "virtual", "directory": "bert"},
        }
        yield Walk(fleet, ann, jobs, said, {BY_PATH: (server, bucket), BY_HOST: (by_host, bucket)}, way, models)


def _names_of_their_own(monkeypatch: pytest.MonkeyPatch, hosts: Path, name: str) -> None:
    """A name that leads to this machine, for this process and for whoever has this hosts file."""
    hosts.write_text(f"{Path('/etc/hosts').read_text()}\n127.0.0.1 {name}\n")
    resolve = socket.getaddrinfo

    def own(host: Any, *arguments: Any, **more: Any) -> Any:
        return resolve("127.0.0.1" if host == name else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", own)


def _node(fleet: Fleet, name: str, region: str) -> Headrace:
    own = fleet.node(name, join=False, HEADRACE_TASK_PATHS=str(fleet.base))
    # Whatever starts the node has the hosts file, and so has the node.
    own.prefix = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(fleet.base / "hosts")]
    fleet.join(own, name, "--label", f"gpu={'H800' if name == 'gpu-1' else 'A100'}", region=region)
    own.prefix = []
    return own


def _refused(call: Callable[[], object], code: str) -> ControlFailure:
    """A refusal, whose sentences are there in both languages."""
    with pytest.raises(ControlFailure) as caught:
        call()
    assert caught.value.code == code, caught.value.message
    for said in (caught.value.problem, *caught.value.problem["fields"]):
        for part in (said["cause"], said["remedy"]):
            assert part["en"].isascii(), part
            assert any("\u4e00" <= letter <= "\u9fff" for letter in part["zh"]), part
    return caught.value


def _what_does_not_connect_is_not_stored(walk: Walk) -> None:
    for good in walk.said.values():
        keys = good["credentials"]
        for wrong, where in [
            ({"credentials": {**keys, "access_key": "nobody"}}, ("access_key", "invalid-access-key-id")),
            ({"credentials": {**keys, "secret_key": "wrong"}}, ("secret_key", "signature-does-not-match")),
        ]:
            found = _refused(lambda wrong=wrong, good=good: walk.ann.create_volume({**good, **wrong}), "check-failed").problem["fields"]  # type: ignore[misc]
            assert [(one["field"], one["code"]) for one in found] == [where]
    found = _refused(lambda: walk.ann.create_volume({**walk.said[BY_PATH], "bucket": "none-of-ours"}), "check-failed").problem["fields"]
    assert [(one["field"], one["code"]) for one in found] == [("bucket", "no-such-bucket")]
    assert list(walk.ann.volumes()) == []


def _a_whole_bucket_is_meant_only_when_it_is_said(walk: Walk) -> None:
    said = {**walk.said[BY_HOST], "directory": "/"}
    (found,) = _refused(lambda: walk.ann.create_volume(said), "invalid").problem["fields"]
    assert (found["field"], found["code"]) == ("directory", "root-unconfirmed")
    assert walk.ann.create_volume({**said, "confirm_root": True})["directory"] == ""
    walk.ann.delete_volume(BY_HOST)


def _an_empty_directory_is_a_warning(walk: Walk) -> None:
    made = walk.ann.create_volume({**walk.said[BY_PATH], "name": "empty", "directory": "nothing/yet"})
    assert [(one["code"], one["level"]) for one in made["findings"] if one["level"] != "note"] == [("empty-directory", "warning")]
    walk.ann.delete_volume("empty")


def _registered(walk: Walk) -> None:
    for name, said in walk.said.items():
        made = walk.ann.create_volume(said)
        assert (made["addressing_used"], made["owner"]) == (said["addressing"], "ann")
        assert [one for one in made["findings"] if one["level"] != "note"] == []
        assert said["credentials"]["secret_key"] not in json.dumps(made)
        server, bucket = walk.servers[name]
        there = {entry["Key"] for entry in server.client().list_objects_v2(Bucket=bucket)["Contents"]}
        assert there == ({f"{HUB}/{path}" for path in walk.models} if name == BY_PATH else set(BERT)), "the check has left something"
    assert "start acceleration first" in walk.jobs["gpu-1"].refused(f"{BY_PATH}:{walk.fleet.base}/a")[1]


def _mountable_while_it_is_pulled(walk: Walk) -> None:
    """In both regions; nobody gets the weights yet."""
    walk.way.shut()
    before = walk.sent()
    for region in ("zj-1", "bj-1"):
        for volume in walk.said:
            walk.ann.start_acceleration(volume, {"region": region})
    small = walk.bytes - len(walk.models[f"{hub.SNAPSHOT}/{hub.WEIGHTS}"])
    for region, count in (("zj-1", 2), ("bj-1", 1)):
        shown = until(
            f"all but the weights is held in {region}",
            lambda region=region, count=count: found if (found := walk.fleet.shown(region=region))["bytes"] == count * small else None,  # type: ignore[misc]
            90,  # the gate is slow where much else runs
        )
        assert (shown["state"], shown["state_zh"], shown["mountable"]) == ("syncing", "回源中", True)
        assert (shown["files"], shown["files_total"], shown["bytes_total"]) == (count * 4, count * 5, count * walk.bytes)
        assert shown["bytes_per_second"] > 0
        assert shown["seconds_left"] > 0
        assert len(shown["nodes"]) == count
    _refused(lambda: walk.ann.start_acceleration(BY_PATH, {"region": "zj-1"}), "state-forbids")
    _refused(lambda: walk.ann.release(BY_PATH, "zj-1"), "state-forbids")
    config = f"{walk.fleet.base}/a/{hub.SNAPSHOT}/config.json"
    assert (
        walk.jobs["gpu-1"].run(f"{BY_PATH}:{walk.fleet.base}/a", command=("cat", config)).end()[1].encode()
        == walk.models[f"{hub.SNAPSHOT}/config.json"]
    )
    walk.way.open()
    for region, count in (("zj-1", 2), ("bj-1", 1)):
        shown = walk.fleet.until("active", region=region)
        assert (shown["state_zh"], shown["bytes_held"], shown["files"]) == ("加速中", count * walk.bytes, count * 5)
        assert walk.fleet.until("active", BY_HOST, region=region)["bytes_held"] == count * sum(map(len, BERT.values()))
    assert walk.sent() - before == 3 * walk.bytes, "each node reads the origin once"


def _usage_is_counted(walk: Walk) -> None:
    walk.forward(timedelta(minutes=2))
    assert {region: walk.usage(region) for region in ("zj-1", "bj-1")} == {"zj-1": 2 * walk.bytes, "bj-1": walk.bytes}
    walk.heard()


def _tasks_load_it_without_the_origin(walk: Walk) -> None:
    """The content of `…/qwen1-5/hub/` at a home's `.cache/huggingface`, on both nodes of a region, where another mounts both providers' volumes."""
    before = {volume: walk.sent(volume) for volume in walk.said}
    home = walk.fleet.base / "home"
    path = home / ".cache/huggingface"
    for name in ("gpu-1", "gpu-2"):
        one = walk.jobs[name]
        one.environment |= {"HOME": str(home), "HF_HUB_CACHE": str(path), "HF_HUB_OFFLINE": "1"}
        code, out, err = one.run(f"{BY_PATH}:{path}", command=(sys.executable, "-c", hub.LOAD)).end()
        assert code == 0, err
        assert json.loads(out) == {
            "hidden_size": hub.HIDDEN_SIZE,
            "text": hub.TEXT,
            "weights": f"{path}/{hub.SNAPSHOT}/{hub.WEIGHTS}",
            "sum": hub.weights_sum(WEIGHTS_MIB),
        }
    both = (f"{BY_PATH}:{walk.fleet.base}/a", f"{BY_HOST}:{walk.fleet.base}/b")
    command = ("cmp", f"{walk.fleet.base}/b/weights.bin", "-")
    job = walk.jobs["gpu-3"].run(*both, region="bj-1", command=command)
    assert job.process.stdin is not None
    job.process.stdin.buffer.write(BERT["bert/weights.bin"])
    assert job.end() == (0, "", "")
    assert {volume: walk.sent(volume) for volume in walk.said} == before
    assert "not of bj-1" in walk.jobs["gpu-1"].refused(f"{BY_PATH}:{walk.fleet.base}/a", region="bj-1")[1]


def _nothing_can_be_written(walk: Walk) -> None:
    path = walk.fleet.base / "a"
    done = walk.jobs["gpu-1"].run(f"{BY_HOST}:{path}", command=(sys.executable, "-c", WRITING, str(path))).end()
    assert done == (0, "EROFS\n" * 9, "")


def _new_files_come_with_a_refresh(walk: Walk) -> None:
    at, one = f"{walk.fleet.base}/a", f"{walk.fleet.base}/one"
    jobs = walk.jobs["gpu-1"]
    stays = jobs.run(f"{BY_PATH}:{at}", command=READING, options=["--name", "serve"]).begun()
    follows = jobs.run(f"{BY_PATH}:{at}", f"{BY_PATH}@v1:{one}", command=READING, options=["--follow"]).begun()
    walk.kept += [stays, follows]
    assert walk.ann.label_version(BY_PATH, "zj-1", 1, "stable")["label"] == "stable"
    before = walk.sent()
    walk.put("README.md", b"of version 2")
    walk.put(f"{hub.SNAPSHOT}/config.json", b'{"model_type": "qwen3"}')
    assert "No such file" in follows.ask(f"{at}/README.md")
    assert "No such file" in jobs.run(f"{BY_PATH}:{at}", command=("cat", f"{at}/README.md")).end()[2]
    walk.ann.refresh(BY_PATH, "zj-1")
    until("version 2", lambda: walk.fleet.shown()["current"] == 2 and walk.fleet.shown()["state"] == "active")
    old = walk.models[f"{hub.SNAPSHOT}/config.json"].decode()
    assert stays.ask(f"{at}/{hub.SNAPSHOT}/config.json") == old
    assert "No such file" in stays.ask(f"{at}/README.md")
    until("the follower has it", lambda: follows.ask(f"{at}/README.md") == "of version 2")
    assert follows.ask(f"{one}/{hub.SNAPSHOT}/config.json") == old
    beside = jobs.run(f"{BY_PATH}:{at}", f"{BY_PATH}@stable:{one}", command=READING).begun()
    assert (beside.ask(f"{at}/README.md"), "No such file" in beside.ask(f"{one}/README.md")) == ("of version 2", True)
    assert beside.end()[0] == 0
    assert [(one["number"], one["label"], one["current"]) for one in walk.ann.versions(BY_PATH, "zj-1")] == [(1, "stable", False), (2, "", True)]
    assert walk.fleet.shown(region="bj-1")["current"] == 1, "the other region has its own"
    assert walk.sent() - before == 2 * (len("of version 2") + len('{"model_type": "qwen3"}')), "what has not changed is not read again"


def _rolled_back(walk: Walk) -> None:
    at = f"{walk.fleet.base}/a"
    assert walk.ann.roll_back(BY_PATH, "zj-1", 1)["current"] == 1
    _, follows = walk.kept
    until("the follower is back", lambda: "No such file" in follows.ask(f"{at}/README.md"))
    assert "No such file" in walk.jobs["gpu-2"].run(f"{BY_PATH}:{at}", command=("cat", f"{at}/README.md")).end()[2]


def _released_by_force(walk: Walk) -> None:
    held = walk.usage("zj-1")
    assert "serve" in _refused(lambda: walk.ann.release(BY_PATH, "zj-1"), "tasks-mounted").problem["cause"]["zh"]
    shown = walk.ann.release(BY_PATH, "zj-1", force=True)
    assert (shown["state"], shown["state_zh"], shown["mountable"], shown["bytes_held"]) == ("idle", "未加速", False, 0)
    assert walk.usage("zj-1") >= held >= 2 * walk.bytes, "what was is kept"
    for job in walk.kept:
        until("its mount is gone", lambda job=job: "not connected" in job.ask(f"{walk.fleet.base}/a/{hub.SNAPSHOT}/config.json"))  # type: ignore[misc]
        job.end()
    for name in ("gpu-1", "gpu-2"):
        until(f"nothing of it is on {name}", lambda name=name: all(key.startswith("bert/") for key in _cached(walk.jobs[name].own)))  # type: ignore[misc]
    assert len(_cached(walk.jobs["gpu-3"].own)) == 5 + len(BERT), "the other region keeps what it has"
    # The configuration stays.
    walk.ann.start_acceleration(BY_PATH, {"region": "zj-1"})
    assert walk.fleet.until("active")["current"] == 3


def _expires_and_comes_back_when_it_is_mounted(walk: Walk) -> None:
    before = walk.sent()
    walk.forward(DAY - timedelta(minutes=10))
    assert walk.fleet.shown(region="bj-1")["state"] == "active"
    walk.forward(timedelta(minutes=20))
    shown = walk.fleet.shown(region="bj-1")
    assert (shown["state"], shown["state_zh"], shown["mountable"], shown["bytes_held"]) == ("expiring", "即将释放", True, walk.bytes)
    assert 13.9 * 86_400 < shown["released_in_seconds"] < 14 * 86_400
    _refused(lambda: walk.ann.refresh(BY_PATH, "bj-1"), "state-forbids")
    walk.heard()
    at = f"{walk.fleet.base}/a"
    job = walk.jobs["gpu-3"].run(f"{BY_PATH}:{at}", region="bj-1", command=READING).begun()
    assert job.ask(f"{at}/{hub.SNAPSHOT}/config.json").encode() == walk.models[f"{hub.SNAPSHOT}/config.json"]
    assert walk.fleet.until("active", region="bj-1")["current"] == 1
    assert [version["number"] for version in walk.ann.versions(BY_PATH, "bj-1")] == [1]
    assert job.end()[0] == 0
    assert walk.sent() == before, "it was held all the time"
    walk.jobs["gpu-3"].none_left()


def _released_by_time(walk: Walk) -> None:
    walk.forward(DAY + timedelta(minutes=1))
    assert walk.fleet.shown(region="bj-1")["state"] == "expiring"
    walk.forward(14 * DAY)
    shown = walk.fleet.shown(region="bj-1")
    assert (shown["state"], shown["bytes_held"], shown["condition"]) == ("idle", 0, "")
    assert walk.usage("bj-1") == walk.bytes
    until("nothing is on its node", lambda: _cached(walk.jobs["gpu-3"].own) == {})
    walk.heard()


def _drained(walk: Walk) -> None:
    """A node before maintenance: what runs goes on, what is new goes elsewhere."""
    walk.ann.start_acceleration(BY_PATH, {"region": "zj-1"})
    walk.fleet.until("active")
    at = f"{walk.fleet.base}/a"
    job = walk.jobs["gpu-1"].run(f"{BY_PATH}:{at}", command=READING, options=["--name", "left"]).begun()
    walk.kept = [job]
    node = walk.node("gpu-1")
    assert walk.ann.place_task({"region": "zj-1", "labels": {"gpu": "H800"}})["name"] == "gpu-1"
    walk.fleet.place.admin.drain_node(node["id"])
    assert walk.node("gpu-1")["state"] == "draining"
    assert "draining" in walk.jobs["gpu-1"].refused(f"{BY_PATH}:{at}")[1]
    assert walk.ann.place_task({"region": "zj-1", "volumes": [BY_PATH]})["name"] == "gpu-2"
    assert job.ask(f"{at}/README.md") == "of version 2"
    _refused(lambda: walk.ann.place_task({"region": "zj-1", "labels": {"gpu": "H800"}}), "no-nodes")


def _lost(walk: Walk) -> None:
    """Nobody hears of a node any more: its tasks end, but not before the bound."""
    (job,) = walk.kept
    (task,) = walk.ann.tasks(ended="false")
    for pid in walk.jobs["gpu-1"].own.processes():
        os.kill(pid, signal.SIGKILL)
    until("its processes are gone", lambda: not walk.jobs["gpu-1"].own.processes())
    # Its last word may be answered after it has died, and counts for the time of the answer.
    until("its last word is answered", lambda: len({walk.node("gpu-1")["heard"] for _ in range(20)}) == 1)
    walk.forward(nodes.LOST_AFTER + timedelta(seconds=1))
    assert walk.node("gpu-1")["state"] == "lost"
    assert walk.ann.task(task["id"])["state"] == "running"
    walk.forward(timedelta(seconds=120))
    ended = walk.ann.task(task["id"])
    assert (ended["state"], ended["end"], ended["ended_because"]["zh"]) == ("ended", "lease", "租约未续期")
    assert walk.fleet.shown()["tasks"] == 0
    job.process.kill()


def _everything_was_told(walk: Walk) -> None:
    """Each change with who made it, and why where it isn't somebody's wish."""
    numbers = {f"node {node['name']} ({node['id']})" for node in walk.fleet.place.admin.nodes() if node["region"] == "zj-1"}
    pulled = [("published", "a node"), ("pull complete", "headrace")]
    told = [(event["kind"], "a node" if event["who"] in numbers else event["who"]) for event in walk.events("zj-1")]
    assert told == [
        ("start acceleration", "ann"), *pulled, ("version-labelled", "ann"), ("refresh from origin", "ann"), *pulled, ("rolled-back", "ann"),
        ("manual release", "ann"), ("start acceleration", "ann"), *pulled,
        ("unused for the threshold", "headrace"), ("unused for 15 days", "headrace"), ("start acceleration", "ann"), *pulled,
    ]  # fmt: skip
    by_force = next(event for event in walk.events("zj-1") if event["kind"] == "manual release")
    assert (by_force["detail"]["before"], by_force["detail"]["now"], "serve" in "".join(by_force["detail"]["tasks"])) == ("active", "idle", True)
    kinds = [event["kind"] for event in walk.events("bj-1")]
    assert kinds[3:] == ["unused for the threshold", "mounted again", "pull complete", "unused for the threshold", "unused for 15 days"]
    tasks = [(event["kind"], event["object_name"], event["why"]) for event in walk.ann.events(noun="task")]
    assert tasks[0] == ("task-ended", "left", "nobody renewed its lease")
    assert ("task-ended", "serve", f"{BY_PATH}@zj-1 was released by ann") in tasks
    admins = list(walk.fleet.place.admin.events())
    assert {"node-joined", "node-draining", "region-created", "volume-created", "token-created"} <= {event["kind"] for event in admins}
    assert [event for event in admins if not event["who"]] == []


def _cached(own: Headrace) -> dict[str, int]:
    return {entry["key"]: entry["allocated"] for entry in json.loads(own.run("cache", "ls", "--json").stdout)}


def test_document_a(walk: Walk) -> None:
    for step in STEPS:
        step(walk)


STEPS = (
    _what_does_not_connect_is_not_stored,
    _a_whole_bucket_is_meant_only_when_it_is_said,
    _an_empty_directory_is_a_warning,
    _registered,
    _mountable_while_it_is_pulled,
    _usage_is_counted,
    _tasks_load_it_without_the_origin,
    _nothing_can_be_written,
    _new_files_come_with_a_refresh,
    _rolled_back,
    _released_by_force,
    _expires_and_comes_back_when_it_is_mounted,
    _released_by_time,
    _drained,
    _lost,
    _everything_was_told,
)
