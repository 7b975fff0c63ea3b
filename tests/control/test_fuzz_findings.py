"""What fuzzing the control plane's API found, and stays mended."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx
import pytest

from control.conftest import Origins, Place
from headrace.client import ControlFailure
from headrace.testing.nodes import SimulatedNode

LIST = b"a list of files"
DIGEST = hashlib.sha256(LIST).hexdigest()


@pytest.fixture
def node(place: Place, origins: Origins) -> Iterator[SimulatedNode]:
    """One that has published a list, and is asked for another."""
    place.admin.create_region({"name": "zj-1"})
    place.admin.create_volume(origins.volume("qwen", read_only=True))
    node = SimulatedNode.join(place.admin, "zj-1", "gpu-1")
    with node.client:
        place.admin.start_acceleration("qwen", {"region": "zj-1"})
        node.publish("qwen", LIST)
        node.hold("qwen")
        place.admin.refresh("qwen", "zj-1")
        yield node


def test_a_list_that_is_published_gets_no_further_part(place: Place, node: SimulatedNode) -> None:
    """With one more than it was published with, it could never be published again: "1 of 2 parts are here"."""
    item = node.items()["qwen"]
    node.client.send_snapshot_part(item["id"], item["list"], DIGEST, 1, b"one more")
    with pytest.raises(ControlFailure) as caught:
        node.client.snapshot_part(DIGEST, 1)
    assert caught.value.code == "not-found"
    assert node.publish("qwen", LIST) == 1


def test_the_document_says_what_a_part_of_a_list_is(place: Place, node: SimulatedNode) -> None:
    answer = httpx.get(f"{place.control.url}/v1/node/snapshots/{DIGEST}/0", headers=node.client._http.headers)
    document = place.admin._json("GET", "/v1/openapi.json")
    declared = document["paths"]["/v1/node/snapshots/{digest}/{part}"]["get"]["responses"]["200"]["content"]
    assert (answer.content, [answer.headers["content-type"]]) == (LIST, list(declared))
