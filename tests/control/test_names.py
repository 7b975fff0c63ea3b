"""Names in every script: kept, listed in pages, found by path and by filter, told in events; on both databases alike."""

from __future__ import annotations

import json
import unicodedata

import pytest

from control.conftest import Origins, Place
from headrace.client import ControlFailure
from headrace.testing.nodes import TOLD

# A name in each script that has letters of its own to go wrong with: composed, joined, from right to left, beyond 16 bits.
NAMES = (
    "latin", "café", "straße", "İstanbul", "ñandú", "Ελλάδα", "Москва", "հայաստան", "ישראל", "مصر", "پارسی", "हिन्दी", "বাংলা",
    "தமிழ்", "తెలుగు", "ไทย", "ລາວ", "မြန်မာ", "ខ្មែរ", "བོད", "ქართული", "አማርኛ", "ᏣᎳᎩ", "ᓄᓇᕗᑦ", "モデル", "浙江一区", "模型-7b",
    "한국어", "𐐷𐑌", "𠮷野家", "٣٤٥", "a.b_c-d", "ＦＵＬＬ",
)  # fmt: skip


@pytest.fixture
def regions(place: Place) -> list[str]:
    return [place.admin.create_region({"name": name})["name"] for name in NAMES]


def test_every_script_makes_a_name(place: Place, regions: list[str]) -> None:
    assert regions == [unicodedata.normalize("NFC", name) for name in NAMES]
    assert sorted(one["name"] for one in place.admin.regions()) == sorted(regions)
    for name in regions:
        for written in (name, unicodedata.normalize("NFD", name)):
            assert place.admin.region(written)["name"] == name
    assert {event["object_name"] for event in place.admin.events(noun="region")} == set(regions)


def test_pages_neither_repeat_nor_leave_out_whatever_order_a_database_gives_them(place: Place, regions: list[str]) -> None:
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = place.admin._document("GET", "/v1/regions", params={"limit": "3", **after})
        seen += [one["name"] for one in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert (sorted(seen), len(seen)) == (sorted(regions), len(set(seen)))


def test_names_that_differ_in_case_or_form_only_are_two(place: Place) -> None:
    """As in object storage; but the same letters, composed or not, are one name."""
    for name in ("Qwen", "qwen", "ＱＷＥＮ", "ŝ"):
        place.admin.create_region({"name": name})
    with pytest.raises(ControlFailure) as caught:
        place.admin.create_region({"name": "s\u0302"})
    assert caught.value.code == "name-taken"


def test_a_volume_a_node_and_labels_of_any_script(place: Place, origins: Origins) -> None:
    place.admin.create_region({"name": "浙江一区"})
    place.admin.create_volume(origins.volume("通义-千问", read_only=True))
    with place.control.client(place.admin.create_join_token("浙江一区")["token"]) as joining:
        joining.enrol("узел-1", {"显卡": "H800", "ραφι": "٣"}, TOLD)
    (node,) = place.admin.nodes(region="浙江一区")
    assert (node["name"], node["labels"]) == ("узел-1", {"显卡": "H800", "ραφι": "٣"})
    started = place.admin.start_acceleration("通义-千问", {"region": "浙江一区"})
    assert (started["volume"], started["region"]) == ("通义-千问", "浙江一区")
    assert [one["name"] for one in place.admin.volumes(name_contains="千")] == ["通义-千问"]


@pytest.mark.parametrize(
    "name", ["a b", "a/b", "a\u200db", "a\u202eb", "\u0301a", "😀", "a\ud83d", "​", "-a", ".", "a\nb", "x" * 64, "é" * 64, "a:b", "a@b"]
)
def test_what_is_no_name_is_told(place: Place, name: str) -> None:
    with pytest.raises(ControlFailure) as caught:
        place.admin._document("POST", "/v1/regions", content=json.dumps({"name": name}), headers={"Content-Type": "application/json"})
    assert (caught.value.code, caught.value.problem["fields"][0]["field"]) == ("invalid", "name")
