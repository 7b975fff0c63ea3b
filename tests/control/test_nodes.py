"""Regions and their nodes: how they join, are heard, are lost, drained and removed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from click.testing import Result
from typer.testing import CliRunner

from control.conftest import Origins, Place
from headrace.cli import nodes
from headrace.cli.app import app
from headrace.client import ControlClient, ControlFailure
from headrace.errors import UsageError

TOLD = {"version": "0.1.0", "capacity_bytes": 1 << 40, "used_bytes": 5, "health": {"passthrough": True}}


@pytest.fixture
def region(place: Place) -> str:
    place.admin.create_region({"name": "zj-1", "title_zh": "浙江一区"})
    return "zj-1"


def _join(place: Place, region: str, name: str, **labels: str) -> ControlClient:
    with place.control.client(place.admin.create_join_token(region)["token"]) as joining:
        return place.control.client(joining.enrol(name, labels, TOLD)["token"])


@pytest.fixture
def node(place: Place, region: str) -> Iterator[ControlClient]:
    with _join(place, region, "gpu-1", gpu="H800") as client:
        yield client


def test_regions_are_shown_in_both_languages(place: Place, region: str) -> None:
    shown = place.admin.region(region)
    assert (shown["title"], shown["title_zh"]) == ("zj-1", "浙江一区")
    edited = place.admin.edit_region(region, {"title": "Zhejiang 1"}, shown["etag"])
    assert (edited["title"], edited["title_zh"], edited["revision"]) == ("Zhejiang 1", "浙江一区", 2)
    with place.user("alice") as alice:
        assert [one["name"] for one in alice.regions()] == ["zj-1"]
        with pytest.raises(ControlFailure) as caught:
            alice.create_region({"name": "mine"})
        assert caught.value.code == "forbidden"


def test_a_node_joins_once_with_a_token(place: Place, region: str) -> None:
    token = place.admin.create_join_token(region)["token"]
    with place.control.client(token) as joining:
        with ThreadPoolExecutor(8) as pool:
            tries = [pool.submit(joining.enrol, f"gpu-{number}", {}, TOLD) for number in range(8)]
        joined = [one.result() for one in tries if one.exception() is None]
        refused = [error for one in tries if isinstance(error := one.exception(), ControlFailure)]
    assert (len(joined), {error.code for error in refused}) == (1, {"unauthenticated"})
    assert len(list(place.admin.nodes())) == 1


def test_a_join_token_that_is_found_later_is_worth_nothing(place: Place, region: str) -> None:
    """By whoever, under whatever name, once its node was heard, or is removed; and as nothing but a join token."""
    token = place.admin.create_join_token(region)["token"]
    with place.control.client(token) as found:
        with place.control.client(found.enrol("gpu-1", {}, TOLD)["token"]) as node:
            node.heartbeat(TOLD)

        def refused() -> None:
            for call in (
                lambda: found.enrol("gpu-1", {}, TOLD),
                lambda: found.enrol("gpu-2", {}, TOLD),
                lambda: found.heartbeat(TOLD),
                found.login,
                lambda: list(found.regions()),
            ):
                with pytest.raises(ControlFailure) as caught:
                    call()
                assert caught.value.code == "unauthenticated"

        refused()
        place.admin.remove_node(next(place.admin.nodes())["id"])
        refused()
        place.admin.delete_region(region)
        place.admin.create_region({"name": region})
        refused()
    assert list(place.admin.nodes()) == []


def test_a_join_token_ends(place: Place, region: str) -> None:
    token = place.admin.create_join_token(region, 60)["token"]
    place.control.clock.advance(timedelta(seconds=61))
    with place.control.client(token) as joining, pytest.raises(ControlFailure) as caught:
        joining.enrol("late", {}, TOLD)
    assert caught.value.code == "unauthenticated"


def test_a_node_is_heard_lost_and_heard_again(place: Place, node: ControlClient) -> None:
    shown = next(place.admin.nodes(region="zj-1"))
    assert (shown["name"], shown["state"], shown["labels"], shown["capacity_bytes"]) == ("gpu-1", "ready", {"gpu": "H800"}, 1 << 40)
    place.control.clock.advance(timedelta(seconds=61))
    assert next(place.admin.nodes())["state"] == "lost"
    node.heartbeat({**TOLD, "used_bytes": 7})
    shown = place.admin.node(shown["id"])
    assert (shown["state"], shown["used_bytes"]) == ("ready", 7)


def test_who_waits_for_what_should_be_hears_of_a_change(place: Place, node: ControlClient) -> None:
    before = node.desired()
    identifier = next(place.admin.nodes())["id"]
    heard: list[dict[str, object]] = []
    waiting = threading.Thread(target=lambda: heard.append(node.desired(before["version"], 30)))
    waiting.start()
    place.admin.drain_node(identifier)
    waiting.join(20)
    assert heard
    assert heard[0] == {"version": before["version"] + 1, "draining": True, "accelerations": []}
    began = time.monotonic()
    assert node.desired(before["version"] + 1, 1) == heard[0]
    assert time.monotonic() - began >= 0.9
    assert place.admin.node(identifier)["state"] == "draining"
    place.admin.drain_node(identifier, draining=False)
    assert place.admin.node(identifier)["state"] == "ready"


def test_a_removed_node_is_nobody(place: Place, node: ControlClient) -> None:
    with pytest.raises(ControlFailure) as busy:
        place.admin.delete_region("zj-1")
    assert (busy.value.code, "gpu-1" in busy.value.message) == ("state-forbids", True)
    place.admin.remove_node(next(place.admin.nodes())["id"])
    for refused in (lambda: node.heartbeat(TOLD), node.desired):
        with pytest.raises(ControlFailure) as caught:
            refused()
        assert caught.value.code == "unauthenticated"
    place.admin.create_join_token("zj-1")
    place.admin.delete_region("zj-1")
    assert list(place.admin.regions()) == []


def test_a_name_is_one_node_of_a_region(place: Place, node: ControlClient) -> None:
    token = place.admin.create_join_token("zj-1")["token"]
    with place.control.client(token) as joining:
        with pytest.raises(ControlFailure) as caught:
            joining.enrol("gpu-1", {}, TOLD)
        assert caught.value.code == "name-taken"
        # Refused whole: the token is still good.
        assert joining.enrol("gpu-2", {}, TOLD)["region"] == "zj-1"


def test_labels_are_changed_one_by_one_and_nodes_hear_of_it(place: Place, node: ControlClient) -> None:
    identifier, before = next(place.admin.nodes())["id"], node.desired()["version"]
    edited = place.admin.label_node(identifier, {"gpu": "H20", "显卡": "国产", "empty": ""})
    assert edited["labels"] == {"gpu": "H20", "显卡": "国产", "empty": ""}
    assert node.desired()["version"] == before + 1
    assert place.admin.label_node(identifier, {"gpu": None, "never": None})["labels"] == {"显卡": "国产", "empty": ""}
    found = [event for event in place.admin.events(noun="node") if event["kind"] == "node-labelled"]
    assert [(event["who"], event["object_name"], event["detail"]) for event in found] == [
        ("admin", "gpu-1", {"labels": {"gpu": None}}),
        ("admin", "gpu-1", {"labels": {"gpu": "H20", "显卡": "国产", "empty": ""}}),
    ]


def test_labels_that_are_so_already_are_no_change(place: Place, node: ControlClient) -> None:
    identifier, before = next(place.admin.nodes())["id"], node.desired()["version"]
    for labels in ({"gpu": "H800"}, {"other": None}, {}):
        assert place.admin.label_node(identifier, labels)["labels"] == {"gpu": "H800"}
    assert place.admin._document("PATCH", f"/v1/nodes/{identifier}", json={})["state"] == "ready"
    assert node.desired()["version"] == before
    assert [event["kind"] for event in place.admin.events(noun="node")] == ["node-joined"]


def test_labels_have_a_bound_and_a_form(place: Place, node: ControlClient) -> None:
    identifier = next(place.admin.nodes())["id"]
    many: dict[str, str | None] = {f"k{number}": "v" for number in range(63)}
    assert len(place.admin.label_node(identifier, many)["labels"]) == 64
    for labels, code in (({"one more": "x"}, "too-many-labels"), ({"a\nb": "x"}, "invalid"), ({"": "x"}, "invalid"), ({"x": "v" * 256}, "invalid")):
        with pytest.raises(ControlFailure) as caught:
            place.admin.label_node(identifier, labels)
        (finding,) = caught.value.problem["fields"]
        assert (caught.value.code, finding["code"], finding["field"].startswith("labels")) == ("invalid", code, True)
    # At the most, one may still be changed for another.
    assert len(place.admin.label_node(identifier, {"k0": None, "one more": "x"})["labels"]) == 64
    with place.user("alice") as alice, pytest.raises(ControlFailure) as forbidden:
        alice.label_node(identifier, {"gpu": "x"})
    assert forbidden.value.code == "forbidden"


def test_draining_and_labels_may_be_changed_at_once(place: Place, node: ControlClient) -> None:
    identifier = next(place.admin.nodes())["id"]
    edited = place.admin._document("PATCH", f"/v1/nodes/{identifier}", json={"draining": True, "labels": {"gpu": None}})
    assert (edited["state"], edited["labels"]) == ("draining", {})
    assert place.admin.label_node(identifier, {"a": "b"})["state"] == "draining"


def test_the_command_labels(place: Place, node: ControlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def control() -> Iterator[ControlClient]:
        yield place.admin

    monkeypatch.setattr(nodes, "control", control)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["node", "label", *arguments])

    assert run("gpu-1", "disk=nvme", "gpu-", "--region", "zj-1").stdout == "node gpu-1 has disk=nvme\n"
    assert run(next(place.admin.nodes())["id"], "disk-").stdout == "node gpu-1 has no labels\n"
    shown = json.loads(run("gpu-1", "a-b=c=d-", "--region", "zj-1", "--json").stdout)
    assert shown["labels"] == {"a-b": "c=d-"}
    for wrong in (["gpu"], ["=x"], ["-"], ["a=1", "a-"]):
        done = run("gpu-1", "--region", "zj-1", "--", *wrong)
        assert isinstance(done.exception, UsageError), done.output
        assert "label: " in done.exception.message


def test_an_acceleration_by_label_goes_to_a_node_that_gets_it(place: Place, node: ControlClient, origins: Origins) -> None:
    place.admin.create_volume(origins.volume("qwen", read_only=True))
    said = {"region": "zj-1", "placement": {"kind": "labels", "labels": {"disk": "nvme"}}}
    with pytest.raises(ControlFailure) as caught:
        place.admin.start_acceleration("qwen", said)
    assert caught.value.code == "no-nodes"
    place.admin.label_node(next(place.admin.nodes())["id"], {"disk": "nvme"})
    assert place.admin.start_acceleration("qwen", said)["state"] == "syncing"
    assert [item["origin"]["volume"] for item in node.desired()["accelerations"]] == ["qwen"]
