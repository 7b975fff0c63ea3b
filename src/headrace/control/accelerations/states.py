"""The state machine of an acceleration, as tables: what happens changes the state, and the state says what may be done.

Whether it can be mounted is a second fact, beside the state: it is true from the moment a snapshot is published, also while data is
still pulled. `docs/concepts/states.md` shows the same tables to people; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from headrace.control.problems import Text, refused


class State(StrEnum):
    """The state of an acceleration."""

    IDLE = "idle"
    SYNCING = "syncing"
    ACTIVE = "active"
    EXPIRING = "expiring"

    @property
    def chinese(self) -> str:
        return _CHINESE[self]


_CHINESE = {State.IDLE: "未加速", State.SYNCING: "回源中", State.ACTIVE: "加速中", State.EXPIRING: "即将释放"}


class Condition(StrEnum):
    """What went wrong last; beside the state."""

    NONE = ""
    FAILED = "failed"
    REFRESH_FAILED = "refresh failed"


class Happening(StrEnum):
    """What changes a state."""

    START = "start acceleration"
    PULLED = "pull complete"
    RELEASE = "manual release"
    UNUSED = "unused for the threshold"
    UNUSED_LONG = "unused for 15 days"
    MOUNTED = "mounted again"
    REFRESH = "refresh from origin"
    PULL_FAILED = "first pull fails"
    REFRESH_FAILED = "refresh fails"


class Operation(StrEnum):
    """What a person may ask for."""

    EDIT = "edit"
    CHECK = "check"
    START = "start"
    DELETE = "delete"
    RELEASE = "release"
    REFRESH = "refresh"
    ROLL_BACK = "roll back"
    # An operator's way out of a pull that nobody wants any more.
    CANCEL = "cancel"


class Mount(StrEnum):
    """What a task that wants to mount is told."""

    START_FIRST = "refused: start acceleration first"
    REASON = "refused with the reason"
    WAITS = "waits with progress up to a bound"
    YES = "yes"
    OLD_VERSION = "yes, on the old version"


CHANGES: dict[tuple[State, Happening], tuple[State, Condition]] = {
    (State.IDLE, Happening.START): (State.SYNCING, Condition.NONE),
    (State.SYNCING, Happening.PULLED): (State.ACTIVE, Condition.NONE),
    (State.ACTIVE, Happening.RELEASE): (State.IDLE, Condition.NONE),
    (State.EXPIRING, Happening.RELEASE): (State.IDLE, Condition.NONE),
    (State.ACTIVE, Happening.UNUSED): (State.EXPIRING, Condition.NONE),
    (State.EXPIRING, Happening.UNUSED_LONG): (State.IDLE, Condition.NONE),
    (State.EXPIRING, Happening.MOUNTED): (State.SYNCING, Condition.NONE),
    (State.ACTIVE, Happening.REFRESH): (State.SYNCING, Condition.NONE),
    (State.SYNCING, Happening.PULL_FAILED): (State.IDLE, Condition.FAILED),
    (State.SYNCING, Happening.REFRESH_FAILED): (State.ACTIVE, Condition.REFRESH_FAILED),
}


@dataclass(frozen=True)
class Situation:
    """A state, as far as it matters for what may be done."""

    state: State
    condition: Condition = Condition.NONE
    has_snapshot: bool = True

    @property
    def allowed(self) -> Allowed:
        return ALLOWED[self]


@dataclass(frozen=True)
class Allowed:
    """What may be done, by whom, and what a mount is told."""

    operations: frozenset[Operation]
    mount: Mount
    by_operator: frozenset[Operation] = frozenset()


_IDLE = frozenset({Operation.EDIT, Operation.CHECK, Operation.START, Operation.DELETE})
_ACTIVE = frozenset({Operation.RELEASE, Operation.REFRESH, Operation.ROLL_BACK})
_CANCEL = frozenset({Operation.CANCEL})

ALLOWED: dict[Situation, Allowed] = {
    Situation(State.IDLE, has_snapshot=False): Allowed(_IDLE, Mount.START_FIRST),
    Situation(State.IDLE, Condition.FAILED, has_snapshot=False): Allowed(_IDLE, Mount.REASON),
    Situation(State.SYNCING, has_snapshot=False): Allowed(frozenset(), Mount.WAITS, _CANCEL),
    Situation(State.SYNCING): Allowed(frozenset(), Mount.YES, _CANCEL),
    Situation(State.ACTIVE): Allowed(_ACTIVE, Mount.YES),
    Situation(State.ACTIVE, Condition.REFRESH_FAILED): Allowed(_ACTIVE, Mount.OLD_VERSION),
    Situation(State.EXPIRING): Allowed(frozenset({Operation.RELEASE}), Mount.YES),
}


def after(state: State, happening: Happening) -> tuple[State, Condition]:
    """State and condition after something happened. Raises ValueError for what can't happen in that state."""
    try:
        return CHANGES[state, happening]
    except KeyError:
        raise ValueError(f"{happening} does not happen to what is {state}") from None


def must_allow(situation: Situation, operation: Operation, *, operator: bool = False) -> None:
    """Raises the problem `state-forbids` for an operation that the state does not allow; it says which ones it does."""
    allowed = situation.allowed.operations | (situation.allowed.by_operator if operator else frozenset())
    if operation in allowed:
        return
    possible = ", ".join(sorted(allowed))
    remedy = Text(
        f"possible now: {possible}" if possible else "wait until the pull ends", f"当前可执行：{possible}" if possible else "请等待同步结束"
    )
    reason = Text(f"the acceleration is {situation.state}", f"当前状态为{situation.state.chinese}")
    raise refused("state-forbids", operation=str(operation), reason=reason, remedy=remedy)
