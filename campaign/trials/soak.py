"""The reference model for an hour: sequence after sequence, each batch with a seed of its own."""

from __future__ import annotations

import time

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from bench.machine import memory
from bench.measure import Figure, at_least, at_most
from campaign.model.machine import Machine
from campaign.model.world import World, world
from campaign.plan import Plan

TITLE = "random operations against the reference model"
LONG = True
SECONDS = 3600
_SEQUENCES = 10
_STEPS = 100
_MEMORY = 64 + 300  # MiB: the budget of `support.headrace`, and what a node may take beside it


def run(plan: Plan) -> list[Figure]:
    """A wrong answer ends the trial with the shortest sequence that leads to it."""
    began = time.monotonic()
    peaks: list[float] = []
    batch = 0
    with world(plan.directory, plan.seed) as here:
        while time.monotonic() - began < SECONDS * plan.share:
            _batch(here, plan.seed + batch)
            batch += 1
            if here.headrace.processes():
                peaks.append(float(memory(here.headrace.node_pid())))
            print(f"  {time.monotonic() - began:.0f} s, {here.done.total()} operations, seed {plan.seed + batch - 1} done", flush=True)
        return _figures(here, batch, peaks)


def _batch(here: World, number: int) -> None:
    machine = seed(number)(type("InThisWorld", (Machine,), {"world": here}))
    length = settings(
        max_examples=_SEQUENCES, stateful_step_count=_STEPS, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=length)


def _figures(here: World, batches: int, peaks: list[float]) -> list[Figure]:
    done = here.done
    reads = sum(count for what, count in done.items() if what.startswith("read"))
    kills = sum(count for what, count in done.items() if what.startswith("kill"))
    rest = [Figure(what, "", (count,)) for what, count in sorted(done.items())]
    return [
        Figure("operations", "", (done.total(),), at_least(1)),
        Figure("sequences", "", (batches * _SEQUENCES,)),
        Figure("reads compared", "", (reads,)),
        Figure("kills of node and keeper", "", (kills,)),
        Figure("faults given", "", (here.origin.faults.total,)),
        Figure("wrong answers", "", (0,), at_most(0)),
        Figure("anonymous and shared memory of the node", "MiB", tuple(peak / (1 << 20) for peak in peaks), at_most(_MEMORY), worst=True),
        *rest,
    ]
