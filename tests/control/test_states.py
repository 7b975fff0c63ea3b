"""The state machine is what the page says, and refuses whatever is not in it."""

from __future__ import annotations

import pytest

from headrace.control.accelerations.states import ALLOWED, CHANGES, Condition, Happening, Operation, Situation, State, after, must_allow
from headrace.control.problems import Problem
from support.states import table


def test_the_page_shows_every_change() -> None:
    shown = [(happens, before, then, condition) for happens, before, then, condition in table("What changes a state")]
    assert shown == [(str(happening), str(state), str(to), str(condition)) for (state, happening), (to, condition) in CHANGES.items()]


def test_the_page_shows_what_may_be_done() -> None:
    def name(situation: Situation) -> str:
        missing = ", no snapshot yet" if situation.state == State.SYNCING and not situation.has_snapshot else ""
        return f"{situation.state}{f', {situation.condition}' if situation.condition else ''}{missing}"

    def operations(situation: Situation) -> str:
        plain = ", ".join(sorted(ALLOWED[situation].operations))
        return plain or f"none (operator: {', '.join(sorted(ALLOWED[situation].by_operator))})"

    assert table("What may be done") == [(name(s), operations(s), str(allowed.mount)) for s, allowed in ALLOWED.items()]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("happening", Happening)
def test_what_is_not_in_the_table_does_not_happen(state: State, happening: Happening) -> None:
    if (state, happening) in CHANGES:
        assert after(state, happening)[0] in State
        return
    with pytest.raises(ValueError, match="does not happen"):
        after(state, happening)


@pytest.mark.parametrize("situation", ALLOWED, ids=lambda s: f"{s.state} {s.condition} {s.has_snapshot}")
@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("operator", [False, True])
def test_operations_are_those_of_thetable(situation: Situation, operation: Operation, operator: bool) -> None:
    allowed = ALLOWED[situation]
    if operation in allowed.operations or (operator and operation in allowed.by_operator):
        must_allow(situation, operation, operator=operator)
        return
    with pytest.raises(Problem) as caught:
        must_allow(situation, operation, operator=operator)
    assert caught.value.code == "state-forbids"
    assert str(operation) in caught.value.cause.en


def test_a_failed_pull_is_never_active() -> None:
    assert all(to == State.IDLE for (_, happening), (to, condition) in CHANGES.items() if condition == Condition.FAILED)
