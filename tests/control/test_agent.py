"""The real agent in real nodes: what the control plane says should be comes about, with bytes from a real S3 server."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import headrace
from control.conftest import Origins, Place
from headrace.testing.content import content
from headrace.testing.faults import Fault
from headrace.testing.nodes import SimulatedNode
from headrace.testing.origin import Origin, failing_origin
from headrace.testing.seaweed import Seaweed
from headrace.testing.signatures import Key
from support.fleet import Fleet, until
from support.headrace import Headrace, wait_until
from support.relay import address, front

MIB = 1 << 20
CONFIG, MODEL = b"{}", bytes(range(256))
SMALL = len(CONFIG) + len(MODEL)


@pytest.fixture
def database() -> None:
    """SQLite: what the agent sees of the control plane does not depend on the database."""
    return


@pytest.fixture
def fleet(place: Place, tmp_path: Path, server: Seaweed) -> Iterator[Fleet]:
    place.admin.create_region({"name": "zj-1"})
    with ExitStack() as stack:
        yield Fleet(place, tmp_path, stack, server)


@pytest.fixture
def failing_origin_of_qwen() -> Iterator[Origin]:
    with failing_origin("models") as origin:
        origin.bucket("models").put("qwen/config.json", CONFIG)
        yield origin


def _cached(own: Headrace) -> dict[str, int]:
    """Bytes held of each key."""
    return {entry["key"]: entry["allocated"] for entry in json.loads(own.run("cache", "ls", "--json").stdout)}


def test_the_whole_way(fleet: Fleet, origins: Origins) -> None:
    own = fleet.node("gpu-1")
    fleet.volume(origins)
    before = fleet.sent(origins.bucket)
    fleet.start()
    shown = fleet.until("active")
    assert (shown["bytes_held"], shown["bytes_total"], shown["files"], shown["files_total"]) == (SMALL, SMALL, 2, 2)
    assert fleet.sent(origins.bucket) - before == SMALL
    # Any door reads what was pulled, and the origin hears nothing of it.
    own.environment |= origins.access.environment()
    mounted = own.mount(f"s3://{origins.bucket}/qwen")
    assert (mounted / "model.safetensors").read_bytes() == MODEL
    assert (mounted / "config.json").read_bytes() == CONFIG
    assert fleet.sent(origins.bucket) - before == SMALL
    own.run("umount", str(mounted))
    # A refresh finds what has changed, and pulls only that.
    origins.access.put(origins.bucket, "qwen/config.json", b'{"a": 1}')
    fleet.place.admin.refresh("qwen", "zj-1")
    until("version 2", lambda: fleet.shown()["current"] == 2 and fleet.shown()["state"] == "active")
    assert fleet.sent(origins.bucket) - before == SMALL + 8
    assert fleet.shown()["bytes_held"] == len(MODEL) + 8
    # One that finds nothing new makes no version.
    fleet.place.admin.refresh("qwen", "zj-1")
    fleet.until("active")
    assert [version["number"] for version in fleet.place.admin.versions("qwen", "zj-1")] == [1, 2]
    fleet.place.admin.release("qwen", "zj-1")
    until("nothing is cached", lambda: not _cached(own))
    until("no list is kept", lambda: not list((own.base / "cache/snapshots/control").iterdir()))


def test_a_comparison_tells_what_a_refresh_would_bring(fleet: Fleet, origins: Origins) -> None:
    fleet.node("gpu-1")
    fleet.volume(origins)
    fleet.start()
    fleet.until("active")
    origins.access.put(origins.bucket, "qwen/new", b"12345")
    origins.access.put(origins.bucket, "qwen/config.json", b"[]")
    before = fleet.sent(origins.bucket)
    begun = fleet.place.admin.compare("qwen", "zj-1")
    done = until("it has compared", lambda: found if (found := fleet.place.admin.comparison("qwen", "zj-1", begun["id"]))["ended"] else None)
    assert (done["state"], done["error"]) == ("done", "")
    assert (done["found"]["new_paths"], done["found"]["changed_paths"], done["found"]["gone"]) == (["new"], ["config.json"], 0)
    assert (done["found"]["files"], done["found"]["bytes"]) == (3, SMALL + 5)
    assert fleet.sent(origins.bucket) == before
    assert [version["number"] for version in fleet.place.admin.versions("qwen", "zj-1")] == [1]
    assert not [path for path in (fleet.base / "gpu-1/cache/snapshots/control").iterdir() if path.name.startswith("candidate")]


def test_a_warm_up_pulls_what_was_chosen_where_it_was(fleet: Fleet, origins: Origins) -> None:
    own = fleet.node("gpu-1")
    fleet.volume(origins)
    fleet.start(selection={"kind": "metadata"})
    fleet.until("active")
    assert _cached(own) == {}
    begun = fleet.place.admin.start_warmup("qwen", "zj-1", {"selection": {"kind": "patterns", "include": ["*.safetensors"]}})
    done = until("it is warm", lambda: shown if (shown := fleet.place.admin.warmup(begun["id"]))["ended"] else None)
    assert (done["end"], done["bytes"], done["files"], done["nodes"][0]["error"]) == ("done", len(MODEL), 1, "")
    assert list(_cached(own)) == ["qwen/model.safetensors"]


def test_a_kept_version_tells_what_of_it_nobody_can_get_any_more(fleet: Fleet, failing_origin_of_qwen: Origin) -> None:
    own = fleet.node("gpu-1")
    bucket = failing_origin_of_qwen.bucket("models")
    access = failing_origin_of_qwen.access
    keys = {"access_key": access.access_key, "secret_key": access.secret_key}
    fleet.place.admin.create_volume({"name": "qwen", "endpoint": access.endpoint, "bucket": "models", "directory": "qwen", "credentials": keys})
    fleet.start()
    fleet.until("active")

    def whole() -> str:
        return str(fleet.place.admin.versions("qwen", "zj-1")[0]["whole"])

    bucket.put("qwen/config.json", b'{"a": 1}')
    fleet.place.admin.refresh("qwen", "zj-1")
    until("version 2", lambda: fleet.shown()["current"] == 2 and fleet.shown()["state"] == "active")
    # The first version's bytes are in the cache as long as nothing displaces them.
    until("the first is whole", lambda: whole() == "complete")
    own.run("cache", "evict", "--all")
    bucket.put("qwen/other", b"x")
    fleet.place.admin.refresh("qwen", "zj-1")
    until("it is lost", lambda: whole() == "not retrievable")


def test_what_a_kept_version_holds_stays_where_room_is_wanted(fleet: Fleet, failing_origin_of_qwen: Origin) -> None:
    """The bucket keeps no versions: what is displaced nobody can get any more."""
    own = fleet.node("gpu-1", HEADRACE_CACHE_SIZE="32Mi")
    bucket, access = failing_origin_of_qwen.bucket("models"), failing_origin_of_qwen.access
    keys = {"access_key": access.access_key, "secret_key": access.secret_key}
    fleet.place.admin.create_volume({"name": "qwen", "endpoint": access.endpoint, "bucket": "models", "directory": "qwen", "credentials": keys})
    bucket.put("qwen/model", content(1, 0, 4 * MIB))
    fleet.start()
    fleet.until("active")
    bucket.put("qwen/model", content(2, 0, 4 * MIB))
    fleet.place.admin.refresh("qwen", "zj-1")
    until("version 2", lambda: fleet.shown()["current"] == 2 and fleet.shown()["state"] == "active")
    # Other models, read through a mount of their own, several times as large as the cache.
    other = failing_origin_of_qwen.bucket("others")
    for number in range(8):
        other.put(f"m/{number}", content(3, 0, 8 * MIB + number))
    own.environment.update(
        AWS_ACCESS_KEY_ID=access.access_key, AWS_SECRET_ACCESS_KEY=access.secret_key, AWS_ENDPOINT_URL=access.endpoint, AWS_REGION="us-east-1"
    )
    mounted = own.mount("s3://others/m")
    for number in range(8):
        assert len((mounted / str(number)).read_bytes()) == 8 * MIB + number
    entries = json.loads(own.run("cache", "ls", "--json").stdout)
    assert [entry["complete"] for entry in entries if entry["key"] == "qwen/model"] == [True, True], entries
    fleet.place.admin.roll_back("qwen", "zj-1", 1)
    until("version 1", lambda: fleet.shown()["current"] == 1 and fleet.shown()["state"] == "active")
    # Let go of, it goes.
    own.run("umount", str(mounted))
    fleet.place.admin.release("qwen", "zj-1")
    until("nothing of it is cached", lambda: not any(key.startswith("qwen/") for key in _cached(own)))


def test_a_killed_node_goes_on_while_the_control_plane_is_away(fleet: Fleet, origins: Origins) -> None:
    size = 24 * MIB
    origins.access.put(origins.bucket, "qwen/big", os.urandom(size))
    with front(address(fleet.place.control.url)) as way:
        own = fleet.node("gpu-1", join=False)
        fleet.join(own, "gpu-1", url=way.url)
        # The ceiling of the volume, kept by the engine, makes time for what follows.
        fleet.volume(origins, bandwidth=4 * MIB)
        before = fleet.sent(origins.bucket)
        fleet.start()
        until("bytes are pulled", lambda: fleet.shown()["bytes"] > 4 * MIB)
        assert fleet.shown()["state"] == "syncing"
        way.shut()
        os.kill(own.node_pid(), signal.SIGKILL)
        # It knows what should be and what it has, but keys are kept in memory only: it waits for them.
        until("the agent is back", lambda: (own.status()["control"] or {}).get("holding"))
        assert own.status()["control"]["heard"] is False
        way.open()
        shown = fleet.until("active", seconds=60)
        assert shown["bytes_held"] == size + SMALL
        assert own.status()["control"]["heard"] is True
        # What had arrived is not fetched again; what was under way when the node was killed is.
        assert fleet.sent(origins.bucket) - before < size + 20 * MIB


def test_reads_go_on_while_the_control_plane_is_away(fleet: Fleet, origins: Origins) -> None:
    with front(address(fleet.place.control.url)) as way:
        own = fleet.node("gpu-1", join=False)
        fleet.join(own, "gpu-1", url=way.url)
        fleet.volume(origins)
        fleet.start()
        fleet.until("active")
        way.shut()
        until("the node notices", lambda: own.status()["control"]["error"])
        assert "not heard" in own.run("status").stdout
        sent = fleet.sent(origins.bucket)
        own.environment |= origins.access.environment()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in own.environment.items():
                patch.setenv(name, value)
            assert headrace.open(f"s3://{origins.bucket}/qwen/model.safetensors").read() == MODEL
        assert fleet.sent(origins.bucket) == sent
        # Released meanwhile: it catches up.
        fleet.place.admin.release("qwen", "zj-1")
        assert _cached(own)
        way.open()
        until("nothing is cached", lambda: not _cached(own))


def test_two_nodes_hold_each_its_own(fleet: Fleet, origins: Origins) -> None:
    nodes = [fleet.node("gpu-1"), fleet.node("gpu-2")]
    fleet.volume(origins)
    before = fleet.sent(origins.bucket)
    fleet.start()
    shown = fleet.until("active")
    assert [(held["bytes"], held["complete"]) for held in shown["nodes"]] == [(SMALL, True)] * 2
    assert fleet.sent(origins.bucket) - before == 2 * SMALL
    fleet.place.admin.release("qwen", "zj-1")
    for own in nodes:
        until("nothing is cached", lambda own=own: not _cached(own))  # type: ignore[misc]


def test_what_was_released_while_a_node_was_away_goes_when_it_is_back(fleet: Fleet, origins: Origins) -> None:
    own = fleet.node("gpu-1")
    fleet.volume(origins)
    fleet.start()
    fleet.until("active")
    for pid in own.processes():
        os.kill(pid, signal.SIGKILL)
    until("node and keeper are dead", lambda: not own.processes())
    fleet.place.admin.release("qwen", "zj-1")
    fleet.start_again(own)
    until("nothing is cached", lambda: not _cached(own))


def test_what_a_mount_needs_stays_at_a_release(fleet: Fleet, origins: Origins) -> None:
    own = fleet.node("gpu-1")
    own.environment |= origins.access.environment()
    origins.access.put(origins.bucket, "qwen/sub/mine", b"mine")
    fleet.volume(origins)
    fleet.start()
    fleet.until("active")
    mounted = own.mount(f"s3://{origins.bucket}/qwen/sub")
    fleet.place.admin.release("qwen", "zj-1")
    until("the rest is gone", lambda: list(_cached(own)) == ["qwen/sub/mine"])
    sent = fleet.sent(origins.bucket)
    assert (mounted / "mine").read_bytes() == b"mine"
    assert fleet.sent(origins.bucket) == sent


def test_an_origin_that_cannot_be_listed_fails_with_the_reason(fleet: Fleet, origins: Origins) -> None:
    fleet.node("gpu-1")
    fleet.volume(origins)
    client = origins.access.client()
    for key in ("config.json", "model.safetensors"):
        client.delete_object(Bucket=origins.bucket, Key=f"qwen/{key}")
    fleet.start()
    shown = until("it failed", lambda: shown if (shown := fleet.shown())["condition"] == "failed" else None)
    assert shown["state"] == "idle"
    assert f"nothing under s3://{origins.bucket}/qwen" in shown["reason"]["en"]
    client.delete_bucket(Bucket=origins.bucket)
    fleet.start()
    shown = until("it failed", lambda: shown if (shown := fleet.shown())["condition"] == "failed" else None)
    assert origins.bucket in shown["reason"]["en"]


def test_a_cache_that_is_too_small_holds_what_fits(fleet: Fleet, origins: Origins) -> None:
    for number in range(4):
        origins.access.put(origins.bucket, f"qwen/part-{number}", os.urandom(6 * MIB))
    own = fleet.node("gpu-1", HEADRACE_CACHE_SIZE="16Mi")
    fleet.volume(origins)
    fleet.start()
    shown = fleet.until("active")
    assert (shown["bytes_held"], shown["bytes_total"]) == (2 * 6 * MIB + SMALL, 4 * 6 * MIB + SMALL)
    assert {key for key, held in _cached(own).items() if held > MIB} == {"qwen/part-0", "qwen/part-1"}


def test_a_selection_is_pulled_and_nothing_else(fleet: Fleet, origins: Origins) -> None:
    own = fleet.node("gpu-1")
    fleet.volume(origins)
    fleet.start(selection={"kind": "patterns", "include": ["*.safetensors"]})
    assert fleet.until("active")["bytes_total"] == len(MODEL)
    assert list(_cached(own)) == ["qwen/model.safetensors"]
    fleet.place.admin.release("qwen", "zj-1")
    until("nothing is cached", lambda: not _cached(own))
    fleet.start(selection={"kind": "metadata"})
    shown = fleet.until("active")
    assert (shown["mountable"], shown["bytes_held"], _cached(own)) == (True, 0, {})


def test_nothing_secret_is_kept_but_the_identity(fleet: Fleet, origins: Origins) -> None:
    own = fleet.node("gpu-1")
    fleet.volume(origins)
    fleet.start()
    fleet.until("active")
    control = own.base / "cache/control"
    identity = json.loads((control / "identity.json").read_text())
    assert stat.S_IMODE(control.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in control.iterdir()} == {0o600}
    secrets = [origins.access.secret_key.encode(), str(identity["token"]).encode()]
    files = [path for path in own.base.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        found = [secret for secret in secrets if secret in content]
        assert not found or path == control / "identity.json", path
    shown = own.run("status", "--json").stdout + own.run("status").stdout
    assert not [secret for secret in secrets if secret.decode() in shown]


def test_joining_and_leaving(fleet: Fleet, origins: Origins) -> None:
    own = fleet.node("gpu-1", join=False)
    assert "hj_wrong" not in fleet.join(own, "gpu-1", token="hj_wrong", check=False)
    assert "no address of a control plane" in fleet.join(own, "gpu-1", url="ftp://nowhere", check=False)
    assert "can't be reached" in fleet.join(own, "gpu-1", url="http://127.0.0.1:1", check=False)
    assert "KEY=VALUE" in fleet.join(own, "gpu-1", "--label", "gpu", check=False)
    assert "PEM" in fleet.join(own, "gpu-1", "--ca", str(own.base / "none.pem"), check=False)
    assert list(fleet.place.admin.nodes()) == []
    assert "region zj-1" in fleet.join(own, "gpu-1", "--label", "gpu=H800")
    node = next(iter(fleet.place.admin.nodes()))
    assert (node["name"], node["labels"], node["state"]) == ("gpu-1", {"gpu": "H800"}, "ready")
    assert "leave" in fleet.join(own, "gpu-2", check=False)
    fleet.volume(origins)
    fleet.start()
    fleet.until("active")
    shown = own.status()["control"]
    assert (shown["region"], shown["node_id"], shown["heard"], shown["error"]) == ("zj-1", node["id"], True, "")
    until("it is told what was reached", lambda: fleet.place.admin.node(node["id"])["applied"] > 0)
    # Longer than the node's patience (2 s): one that has joined stays.
    wait_until("a heartbeat", lambda: fleet.place.admin.node(node["id"])["heard"] != node["heard"], 20)
    pid = own.node_pid()
    own.run("node", "leave")
    assert own.status()["control"] is None
    assert "nothing to leave" in own.run("node", "leave", check=False).stderr
    assert not list((own.base / "cache/control").iterdir())
    until("the node ends by idleness", lambda: pid not in own.processes())


def test_keys_that_were_replaced(fleet: Fleet, failing_origin_of_qwen: Origin) -> None:
    origin = failing_origin_of_qwen
    signatures = origin.check_signatures()
    own = fleet.node("gpu-1")
    said = _said(origin)
    fleet.place.admin.create_volume(said)
    fleet.start()
    fleet.until("active")
    signatures.keys["headrace"] = Key("another-secret")
    origin.bucket("models").put("qwen/new", b"new")
    fleet.place.admin.refresh("qwen", "zj-1")
    shown = until("the refresh failed", lambda: shown if (shown := fleet.shown())["condition"] == "refresh failed" else None)
    assert (shown["state"], shown["current"]) == ("active", 1)
    assert shown["reason"]["en"]
    fleet.place.admin.rotate_credentials("qwen", {"access_key": origin.access.access_key, "secret_key": "another-secret"})
    fleet.place.admin.refresh("qwen", "zj-1")
    until("version 2", lambda: fleet.shown()["current"] == 2 and fleet.shown()["state"] == "active")
    assert set(_cached(own)) == {"qwen/config.json", "qwen/new"}
    assert "another-secret" not in own.log()


def test_a_change_of_mind_breaks_a_pull_off(fleet: Fleet, origins: Origins) -> None:
    origins.access.put(origins.bucket, "qwen/big", os.urandom(24 * MIB))
    own = fleet.node("gpu-1")
    fleet.volume(origins, bandwidth=2 * MIB)
    fleet.start()
    until("bytes are pulled", lambda: fleet.shown()["bytes"] > MIB)
    fleet.place.admin.cancel_pull("qwen", "zj-1")
    assert fleet.shown()["state"] == "idle"
    until("nothing is cached", lambda: not _cached(own), 10)
    sent = fleet.sent(origins.bucket)
    until("no list is kept", lambda: not list((own.base / "cache/snapshots/control").iterdir()))
    assert fleet.sent(origins.bucket) - sent < 4 * MIB
    assert not _cached(own)


def test_an_error_of_a_pull_is_told_and_it_goes_on(fleet: Fleet, failing_origin_of_qwen: Origin) -> None:
    origin = failing_origin_of_qwen
    fleet.node("gpu-1")
    fleet.place.admin.create_volume(_said(origin))
    origin.faults.always(Fault.WRONG_ETAG, "qwen/config.json")
    fleet.start()
    shown = until("the error is told", lambda: shown if (shown := fleet.shown())["nodes"] and shown["nodes"][0]["error"] else None)
    assert (shown["state"], shown["mountable"], shown["nodes"][0]["complete"]) == ("syncing", True, False)
    assert "qwen/config.json" in shown["nodes"][0]["error"]
    origin.faults.clear()
    shown = fleet.until("active")
    assert shown["nodes"][0]["error"] == ""


def test_a_list_in_many_parts_and_of_a_node_that_did_not_make_it(fleet: Fleet, failing_origin_of_qwen: Origin) -> None:
    origin = failing_origin_of_qwen
    for number in range(30_000):
        origin.bucket("models").put(f"qwen/{number % 100:02}/a-file-of-which-there-are-many-{number}", b"x")
    nodes = [fleet.node("gpu-1"), fleet.node("gpu-2")]
    fleet.place.admin.create_volume(_said(origin))
    fleet.start(selection={"kind": "patterns", "include": ["*-7", "*-29999"]})
    shown = fleet.until("active")
    assert [held["files_total"] for held in shown["nodes"]] == [2, 2]
    assert fleet.place.admin.versions("qwen", "zj-1")[0]["files"] == 30_001
    for own in nodes:
        (path,) = (own.base / "cache/snapshots/control").iterdir()
        assert path.stat().st_size > MIB
        assert len(_cached(own)) == 2


def test_a_list_of_another_bucket_is_refused(fleet: Fleet, origins: Origins, failing_origin_of_qwen: Origin) -> None:
    own = fleet.node("gpu-1")
    fleet.volume(origins)
    fleet.start()
    fleet.until("active")
    (path,) = (own.base / "cache/snapshots/control").iterdir()
    other = path.read_bytes()
    node = next(iter(fleet.place.admin.nodes()))
    fleet.place.admin.drain_node(node["id"])
    simulated = SimulatedNode.join(fleet.place.admin, "zj-1", "gpu-0")
    with simulated.client:
        fleet.place.admin.create_volume(_said(failing_origin_of_qwen, "evil"))
        fleet.start("evil")
        simulated.publish("evil", other)
        fleet.place.admin.drain_node(node["id"], draining=False)

        def refused() -> str:
            held = [one for one in fleet.shown("evil")["nodes"] if one["node_id"] == node["id"]]
            return str(held[0]["error"]) if held else ""

        assert f"is of s3://{origins.bucket}/qwen/" in until("it is refused", refused)
        assert [path.name] == [one.name for one in path.parent.iterdir()]


def _said(origin: Origin, name: str = "qwen") -> dict[str, object]:
    keys = {"access_key": origin.access.access_key, "secret_key": origin.access.secret_key}
    return {"name": name, "endpoint": origin.access.endpoint, "bucket": "models", "directory": "qwen", "credentials": keys}


def test_what_another_acceleration_needs_stays_at_a_release(fleet: Fleet, origins: Origins) -> None:
    own = fleet.node("gpu-1")
    origins.access.put(origins.bucket, "qwen/sub/shared", b"shared")
    fleet.volume(origins)
    fleet.volume(origins, "part", directory="qwen/sub")
    before = fleet.sent(origins.bucket)
    fleet.start()
    fleet.until("active")
    fleet.start("part")
    assert fleet.until("active", "part")["bytes_held"] == len(b"shared")
    assert fleet.sent(origins.bucket) - before == SMALL + len(b"shared"), "what one has pulled, the other has"
    fleet.place.admin.release("qwen", "zj-1")
    until("the rest is gone", lambda: list(_cached(own)) == ["qwen/sub/shared"])
    fleet.place.admin.release("part", "zj-1")
    until("nothing is cached", lambda: not _cached(own))


def test_an_origin_that_is_away_fails_with_the_reason(fleet: Fleet, origins: Origins) -> None:
    fleet.node("gpu-1")
    with front(address(origins.access.endpoint)) as way:
        fleet.volume(origins, endpoint=way.url)
        way.shut()
        fleet.start()
        shown = until("it failed", lambda: shown if (shown := fleet.shown())["condition"] == "failed" else None, 90)
        assert shown["reason"]["en"]
        way.open()
        fleet.start()
        assert fleet.until("active")["bytes_held"] == SMALL
