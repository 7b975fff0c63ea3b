"""The bench's own arithmetic and report, and one scenario at a size that says nothing about speed."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import models, readers, report
from bench.__main__ import named
from bench.chart import svg
from bench.measure import Figure, Repeats, at_least, at_most, quartiles, ratios
from bench.objects import BUCKET, MIB
from bench.place import place
from bench.plan import Plan
from bench.seats import Seat
from bench.servers.nginx import listing


def test_runs_take_turns_and_values_stay_in_order() -> None:
    calls: list[str] = []

    def run(name: str, value: float) -> float:
        calls.append(name)
        return value

    rounds = Repeats(3, 2).in_turn([lambda: run("a", 1), lambda: run("b", 2)])
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert rounds == [(1, 2)] * 3
    assert ratios(rounds) == (0.5,) * 3


def test_the_median_is_judged_and_the_worst_where_it_must_be() -> None:
    assert Figure("", "", (1, 5, 9), at_least(5)).reached
    assert not Figure("", "", (1, 5, 9), at_least(5), worst=True).reached
    assert not Figure("", "", (1, 5, 9), at_most(8), worst=True).reached
    assert Figure("", "", (1, 5, 9)).reached is None
    assert quartiles([4]) == (4, 4, 4)


def test_the_report_names_what_was_missed(tmp_path: Path) -> None:
    figures = (Figure("fast enough", "", (0.96,), at_least(0.95)), Figure("too much", "MiB", (700, 800), at_most(556), worst=True))
    outcomes = [report.Outcome("scenario", "title", figures, 1.0)]
    assert [f.what for f in report.missed(outcomes)] == ["too much"]
    report.write(tmp_path / "results", outcomes, {"seed": 1})
    assert "| scenario | too much | 800 MiB | 725–775 | 2 | ≤ 556 (worst) | **missed** |" in (tmp_path / "results/table.md").read_text()
    raw = json.loads((tmp_path / "results/results.json").read_text())
    assert raw["scenarios"][0]["figures"][0]["values"] == [0.96]


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1234.4, "1234"), (12.345, "12.3"), (1.005, "1.00"), (0.012345, "0.0123")])
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert report.number(value) == text


def test_who_fails_is_out_and_the_others_go_on() -> None:
    calls: list[str] = []
    failures: list[str] = []

    def broken() -> float:
        calls.append("broken")
        raise RuntimeError("no mount")

    rounds = Repeats(3, 2).compare({"ours": lambda: 2.0, "broken": broken, "best": lambda: 4.0}, lambda name, _: failures.append(name))
    assert (calls, failures) == (["broken"], ["broken"])
    assert rounds.best(["broken", "ours", "best"]) == "best"
    assert rounds.ratios("ours", "best") == (0.5,) * 3


def test_scenarios_are_found_by_number_and_by_name() -> None:
    assert (named("S1"), named("s13"), named("warm")) == ("s01_link", "s13_restricted", "warm")
    with pytest.raises(argparse.ArgumentTypeError):
        named("S99")


def test_a_seat_is_a_prefix() -> None:
    assert Seat().command(["dd"]) == ["dd"]
    assert Seat(namespace="n", cores="1").command(["dd"]) == ["nsenter", "--net=/run/netns/n", "--", "taskset", "--cpu-list", "1", "dd"]


def test_the_chart_shows_ours_first_and_the_ceiling() -> None:
    drawn = ElementTree.fromstring(svg({"Cold <read>\n/ raw": {"s3fs": 0.4, "headrace": 0.97}}))
    texts = ["".join(each.itertext()) for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["Cold <read>", "/ raw", "Headrace", "0.97", "s3fs", "0.40"]
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}line"))) == 1


@pytest.mark.parametrize(("write", "ending"), [(models.write_safetensors, "safetensors"), (models.write_gguf, "gguf")])
def test_models_have_their_size(write: Callable[[Path, int, int], None], ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{ending}"
    write(path, 1, 2 * models.TENSOR)
    assert 0 < path.stat().st_size - 2 * models.TENSOR < 4096
    if ending == "safetensors":
        assert readers.run("loaded", tmp_path).found == 2 * models.TENSOR


def test_nginx_lists_what_lies_in_the_directory(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/a&b").write_bytes(b"12345")
    os.utime(tmp_path / "m/a&b", (0x10, 0x10))
    listed = ElementTree.fromstring(listing("bench", tmp_path, "m"))
    fields = {each.tag.partition("}")[2]: each.text for each in listed.iter()}
    assert fields["Key"] == "m/a&b"
    assert (fields["ETag"], fields["Size"], fields["IsTruncated"]) == ('"10-5"', "5", "false")


def test_a_place_measures_and_leaves_nothing(tmp_path: Path) -> None:
    from bench import machine, raw

    directory = tmp_path / "place"
    with place(directory, Plan(quick=True), seed=3) as here:
        wanted = here.objects.file(32 * MIB)
        assert wanted.size == 4 * MIB
        with here.headrace() as system:
            path = system.mount(wanted.source) / wanted.name
            before = here.server.sent_bytes(BUCKET)
            assert readers.run("sequential_check", path, wanted.seed).found is None
            assert here.server.sent_bytes(BUCKET) - before == wanted.size
            assert readers.run("mapped_sum", path).found == readers.run("mapped_sum", wanted.native).found
            assert readers.run("sequential_check", path, wanted.seed + 1).found == 0
            assert raw.fetch(here.route, BUCKET, wanted.key, wanted.size) > 0
            assert machine.memory(system.pid()) > MIB
            assert machine.allocated(system.cache, system.pids()) >= wanted.size
        assert "fuse.headrace" in here.record.mount_options["headrace"]
    assert not directory.exists()
