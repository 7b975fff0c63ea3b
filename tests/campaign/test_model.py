"""A thousand operations in an order that nobody thought of; `make soak` goes on for an hour."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from campaign.model.handles import Handle, Read
from campaign.model.machine import Machine
from campaign.model.world import World, world

OPERATIONS = 1000
OPERATIONS_MAX = 2000  # with a seed that brings too little of something
SEED = int(os.environ.get("HEADRACE_TEST_SEED", "20261124"))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, SEED) as running:
        yield running


@pytest.mark.timeout(900)  # shrinking a failure takes up to five minutes of it
def test_a_thousand_operations(here: World) -> None:
    print(f"seed {SEED}; HEADRACE_TEST_SEED sets another")  # shown when the test fails
    length = settings(
        max_examples=5, stateful_step_count=50, deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck)
    )  # fmt: skip
    rounds = 0
    while here.done.total() < OPERATIONS or (here.missing() and here.done.total() < OPERATIONS_MAX):
        machine = seed(SEED + rounds)(type("InThisWorld", (Machine,), {"world": here}))
        run_state_machine_as_test(machine, settings=length)
        rounds += 1
        assert rounds < 100, "sequences end before they have begun"
    print("\n".join(f"{what}: {count}" for what, count in sorted(here.tally().items())))
    assert here.missing() == {}, f"after {here.done.total()} operations"


def test_a_wrong_answer_is_seen(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model itself: a byte that differs, an error that nothing explains, and a missing byte each fail a sequence."""
    machine = type("InThisWorld", (Machine,), {"world": here})()
    machine.begin([4097, 4097], 0.0)
    try:
        right = Handle.read
        for wrong in (
            lambda *of: bytes([right(*of)[0] ^ 1]) + right(*of)[1:],
            lambda *of: right(*of)[:-1],
            _fails,
        ):
            monkeypatch.setattr(Handle, "read", wrong)
            with pytest.raises(AssertionError, match=r"wrong bytes|instead of|EIO"):
                machine.read([Read(0, 0.0, 4096, 0)])
            monkeypatch.undo()
    finally:
        machine.teardown()


def _fails(*_: object) -> bytes:
    raise OSError(errno.EIO, "EIO")
