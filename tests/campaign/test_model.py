"""A thousand operations in an order that nobody thought of; `make soak` goes on for an hour."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from campaign.model.machine import Machine
from campaign.model.world import World, world

SEED = int(os.environ.get("HEADRACE_TEST_SEED", "20261124"))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, SEED) as running:
        yield running


@pytest.mark.timeout(900)  # shrinking a failure takes up to five minutes of it
def test_a_thousand_operations(here: World) -> None:
    print(f"seed {SEED}; HEADRACE_TEST_SEED sets another")  # shown when the test fails
    length = settings(
        max_examples=20, stateful_step_count=50, deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck)
    )  # fmt: skip
    rounds = 0
    while here.done.total() < 1000:  # most sequences have fifty steps, some end earlier
        machine = seed(SEED + rounds)(type("InThisWorld", (Machine,), {"world": here}))
        run_state_machine_as_test(machine, settings=length)
        rounds += 1
        assert rounds < 10
    assert here.origin.faults.total > 0
