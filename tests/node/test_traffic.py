"""Sums of what was moved, by volume: they only grow, whatever becomes of the engine's origins."""

from __future__ import annotations

from typing import cast

import pytest

from headrace._engine import Engine
from headrace.node.agent.traffic import Traffic


class Counting:
    """An engine, as far as it counts."""

    def __init__(self, **counts: tuple[int, int, int]) -> None:
        self.counts = {name.replace("_", "-"): some for name, some in counts.items()}

    def traffic(self) -> dict[str, tuple[int, int, int]]:
        return dict(self.counts)

    def remove_origin(self, name: str) -> None:
        self.counts.pop(name, None)


class Heard:
    """What was told."""

    def __init__(self) -> None:
        self.epochs: set[str] = set()
        self.pieces: list[int] = []
        self.told: dict[str, tuple[int, int, int]] = {}

    def __call__(self, epoch: str, volumes: list[dict[str, int]]) -> None:
        self.epochs.add(epoch)
        self.pieces.append(len(volumes))
        self.told |= {str(one["volume"]): (one["origin_bytes"], one["served_bytes"], one["opened_bytes"]) for one in volumes}


def _traffic(engine: Counting, before: dict[str, tuple[int, int, int]] | None = None) -> Traffic:
    return Traffic(cast(Engine, engine), before or {})


def test_all_origins_of_a_volume_are_one_sum_and_others_none() -> None:
    heard = Heard()
    _traffic(Counting(control_v1_1=(1, 2, 3), control_v1_2=(10, 20, 30), control_v2_1=(0, 0, 0), mount_7=(9, 9, 9))).tell(heard)
    assert heard.told == {"v1": (11, 22, 33)}


def test_what_an_origin_counted_stays_when_it_goes_and_when_it_comes_again() -> None:
    engine, heard = Counting(control_v1_1=(1, 2, 3)), Heard()
    traffic = _traffic(engine)
    traffic.remove("control-v1-1")
    traffic.remove("control-v1-1")
    assert engine.counts == {}
    engine.counts["control-v1-1"] = (10, 0, 0)
    traffic.tell(heard)
    assert heard.told == {"v1": (11, 2, 3)}
    assert len(heard.epochs) == 1


def test_only_what_has_changed_is_told_in_pieces() -> None:
    engine, heard = Counting(), Heard()
    traffic = _traffic(engine)
    traffic.tell(heard)
    assert heard.pieces == []
    engine.counts = {f"control-v{number}-1": (1, 0, 0) for number in range(1100)}
    traffic.tell(heard)
    traffic.tell(heard)
    assert heard.pieces == [500, 500, 100]
    engine.counts["control-v7-1"] = (1, 1, 0)
    traffic.tell(heard)
    assert (heard.pieces[3:], heard.told["v7"]) == ([1], (1, 1, 0))


def test_what_could_not_be_told_is_told_the_next_time() -> None:
    def fails(_epoch: str, _volumes: list[dict[str, int]]) -> None:
        raise ConnectionError

    traffic, heard = _traffic(Counting(control_v1_1=(1, 0, 0))), Heard()
    with pytest.raises(ConnectionError):
        traffic.tell(fails)
    traffic.tell(heard)
    assert heard.told == {"v1": (1, 0, 0)}


def test_what_another_membership_moved_is_not_told_again() -> None:
    """Mounts of tasks, and their origins, outlive the membership that they began in."""
    engine, heard = Counting(control_v1_1=(100, 50, 0)), Heard()
    traffic = _traffic(engine, engine.traffic())
    traffic.tell(heard)
    assert heard.told == {}
    engine.counts["control-v1-1"] = (101, 52, 0)
    traffic.tell(heard)
    assert heard.told == {"v1": (1, 2, 0)}
    traffic.remove("control-v1-1")
    engine.counts["control-v1-1"] = (5, 0, 0)
    traffic.tell(heard)
    assert heard.told == {"v1": (6, 2, 0)}
    other = Heard()
    _traffic(engine).tell(other)
    assert not heard.epochs & other.epochs
