"""The reference model for an hour: sequence after sequence, each batch with a seed of its own."""

from __future__ import annotations

import time
import traceback

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from bench.machine import memory
from bench.measure import Figure, at_least, at_most
from campaign.model.machine import Machine
from campaign.model.world import World, minima, world
from campaign.plan import Plan

TITLE = "random operations against the reference model"
LONG = True
SECONDS = 3600
_SEQUENCES = 10
_STEPS = 100
_MEMORY = 64 + 300  # MiB: the budget of `support.headrace`, and what a node may take beside it


def run(plan: Plan) -> list[Figure]:
    """Ends at the first sequence with a wrong answer, and prints the shortest one that leads to it."""
    began = time.monotonic()
    peaks: list[float] = []
    batches = 0
    wrong: list[int] = []  # seeds of the batches that found one
    with world(plan.directory, plan.seed) as here:
        while time.monotonic() - began < SECONDS * plan.share and not wrong:
            number = plan.seed + batches
            if not _right(here, number):
                wrong.append(number)
            batches += 1
            if here.headrace.processes():
                peaks.append(float(memory(here.headrace.node_pid())))
            print(f"  {time.monotonic() - began:.0f} s, {here.done.total()} operations, seed {number} done", flush=True)
        return _figures(here, batches, len(wrong), peaks)


def _right(here: World, number: int) -> bool:
    """Whether every answer of a batch was the model's."""
    try:
        _batch(here, number)
    except Exception:  # whatever Hypothesis makes of what failed: it is shown as a whole
        traceback.print_exc()
        return False
    return True


def _batch(here: World, number: int) -> None:
    machine = seed(number)(type("InThisWorld", (Machine,), {"world": here}))
    length = settings(
        max_examples=_SEQUENCES, stateful_step_count=_STEPS, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=length)


def _figures(here: World, batches: int, wrong: int, peaks: list[float]) -> list[Figure]:
    tally, least = here.tally(), minima(here.done.total())
    counted = [Figure(what, "", (tally.get(what, 0),), at_least(least[what]) if what in least else None) for what in sorted({*tally, *least})]
    return [
        Figure("operations", "", (here.done.total(),), at_least(1)),
        Figure("sequences", "", (batches * _SEQUENCES,)),
        Figure("batches of sequences with a wrong answer", "", (wrong,), at_most(0)),
        Figure("reads compared", "", (here.compared.total() - here.compared["gone"],)),
        Figure("anonymous and shared memory of the node", "MiB", tuple(peak / (1 << 20) for peak in peaks), at_most(_MEMORY), worst=True),
        *counted,
    ]
