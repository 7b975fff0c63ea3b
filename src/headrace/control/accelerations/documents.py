"""Accelerations as they are shown, and as they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, computed_field, model_validator

from headrace.control.accelerations import changes, kept, service
from headrace.control.accelerations.models import Acceleration, Holding, Version
from headrace.control.accelerations.names import Names
from headrace.control.accelerations.placement import Placement
from headrace.control.accelerations.progress import progress_of
from headrace.control.accelerations.queries import Sum
from headrace.control.accelerations.states import Condition, State
from headrace.control.problems import Text, Wrong
from headrace.control.revisions import etag
from headrace.control.texts import LabelValue, Line, Name

Pattern = Annotated[Line, Field(max_length=255)]
Seconds = Annotated[int, Field(ge=1, le=10 * 366 * 86_400)]
_REFRESH_LEAST = 60
Count = Annotated[int, Field(ge=0, le=2**62)]


def _schedule(seconds: int) -> int:
    if 0 < seconds < _REFRESH_LEAST:
        raise Wrong(
            Text(f"a refresh more often than every {_REFRESH_LEAST} s is no schedule", f"刷新间隔不得少于 {_REFRESH_LEAST} 秒"),
            Text("give more, or 0 for none", "请增大，或填 0 表示不自动刷新"),
        )
    return seconds


class SelectionDocument(BaseModel):
    """What is pulled: everything, the files that patterns choose, or the list of files only. What isn't is fetched when it is read."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["all", "patterns", "metadata"] = "all"
    include: Annotated[list[Pattern], Field(max_length=100)] = []
    exclude: Annotated[list[Pattern], Field(max_length=100)] = []

    @model_validator(mode="after")
    def _whole(self) -> SelectionDocument:
        if (self.kind == "patterns") != bool(self.include or self.exclude):
            raise Wrong(
                Text("patterns come with the kind `patterns`, and it with them", "模式与类型 `patterns` 须同时给出"),
                Text("give both or neither", "请同时填写或都不填写"),
            )
        return self


class PlacementDocument(BaseModel):
    """Which nodes of the region hold it: all, a number of them, or those with labels."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["all", "number", "labels"] = "all"
    number: Annotated[int, Field(ge=0, le=100_000)] = 0
    labels: Annotated[dict[Line, LabelValue], Field(max_length=64)] = {}

    @model_validator(mode="after")
    def _whole(self) -> PlacementDocument:
        if (self.kind == "number") != bool(self.number) or (self.kind == "labels") != bool(self.labels):
            raise Wrong(
                Text("a number comes with the kind `number`, labels with the kind `labels`", "数量对应类型 `number`，标签对应类型 `labels`"),
                Text("give what the kind needs and nothing else", "请只填写该类型所需的内容"),
            )
        return self


RefreshEvery = Annotated[int, AfterValidator(_schedule), Field(ge=0, le=366 * 86_400, description="Refreshed so often by itself; 0 is never.")]


class AccelerationEdit(BaseModel):
    """What to change of an acceleration, in any state."""

    model_config = ConfigDict(extra="forbid")

    expire_seconds: Seconds | None = None
    release_seconds: Seconds | None = None
    keep_versions: Annotated[int | None, Field(ge=1, le=1000)] = None
    refresh_every_seconds: RefreshEvery | None = None


class Start(BaseModel):
    """An acceleration to start."""

    model_config = ConfigDict(extra="forbid")

    region: Name
    selection: SelectionDocument = SelectionDocument()
    placement: PlacementDocument = PlacementDocument()
    expire_seconds: Annotated[Seconds, Field(description="Unused for this long it expires.")] = 86_400
    release_seconds: Annotated[Seconds, Field(description="Unused for this long it is released.")] = 15 * 86_400
    keep_versions: Annotated[int, Field(ge=1, le=1000)] = 5
    refresh_every_seconds: RefreshEvery = 0

    @model_validator(mode="after")
    def _whole(self) -> Start:
        if self.release_seconds < self.expire_seconds:
            raise Wrong(
                Text("release_seconds is less than expire_seconds", "release_seconds 小于 expire_seconds"),
                Text("give more: what is released has expired before", "请增大：释放发生在过期之后"),
            )
        return self

    def wanted(self) -> service.Wanted:
        selection = service.Selection(self.selection.kind, tuple(self.selection.include), tuple(self.selection.exclude))
        placement = Placement(self.placement.kind, self.placement.number, dict(self.placement.labels))
        return service.Wanted(selection, placement, self.expire_seconds, self.release_seconds, self.keep_versions, self.refresh_every_seconds)


class Release(BaseModel):
    """How to release."""

    model_config = ConfigDict(extra="forbid")

    force: Annotated[bool, Field(description="Also while tasks mount it: their mounts end.")] = False


class Refresh(BaseModel):
    """How to refresh."""

    model_config = ConfigDict(extra="forbid")

    at_once: Annotated[bool, Field(description="What is new becomes current when it is published, instead of when it is held.")] = False


class VersionEdit(BaseModel):
    """What to call a version; nothing takes its label away. One with a label is kept."""

    model_config = ConfigDict(extra="forbid")

    label: Annotated[Name | Literal[""], Field(description="Tasks name the version by it, as qwen@stable.")]

    @model_validator(mode="after")
    def _whole(self) -> VersionEdit:
        if self.label[:1] == "v" and self.label[1:].isdigit():
            raise Wrong(Text("it looks like the number of a version", "它与版本号形式相同"), Text("choose another label", "请换一个标签"))
        return self


class RollBack(BaseModel):
    """Which version to go back to."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(ge=1, le=2**31 - 1)]


class HoldingDocument(BaseModel):
    """What a node has of a version."""

    model_config = ConfigDict(from_attributes=True)

    node_id: str
    version: int
    files: int
    files_total: int
    bytes: int
    bytes_total: int
    complete: bool
    error: str
    told: datetime


class VersionDocument(BaseModel):
    """A published list of files. `pulled` says whether it was complete once."""

    number: int
    label: str
    files: int
    bytes: int
    skipped: int
    created: datetime
    current: bool
    pulled: bool
    whole: Annotated[kept.Whole, Field(description="Whether it can still be read whole, by what nodes tell.")]


class AccelerationSummary(BaseModel):
    """A volume in a region."""

    id: str
    volume: str
    region: str
    owner: str
    state: Literal["idle", "syncing", "active", "expiring"]
    state_zh: str
    condition: Literal["", "failed", "refresh failed"]
    reason: dict[str, str]
    mountable: bool
    current: int | None
    pulling: int | None
    selection: SelectionDocument
    placement: PlacementDocument
    tasks: Annotated[int, Field(description="Tasks that mount it now; as long as there are any, it does not expire.")]
    expire_seconds: int
    release_seconds: int
    keep_versions: int
    refresh_every_seconds: int
    bytes_held: Annotated[int, Field(description="加速用量: bytes that nodes hold now, all together.")]
    files: Annotated[int, Field(description="Of the pull, all nodes together.")]
    files_total: int
    bytes: int
    bytes_total: int
    bytes_per_second: float
    seconds_left: float | None
    expires_in_seconds: float | None
    released_in_seconds: float | None
    revision: int
    created: datetime
    changed: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def etag(self) -> str:
        """What an edit sends as If-Match."""
        return etag(self.id, self.revision)


class AccelerationDocument(AccelerationSummary):
    """A volume in a region, with what each node has of it."""

    nodes: list[HoldingDocument]


def shown(row: Acceleration, names: Names, held: Sequence[Holding], tasks: int, now: datetime) -> AccelerationDocument:
    """An acceleration, with what each node has."""
    nodes = [HoldingDocument.model_validate(one) for one in held]
    return AccelerationDocument(**dict(summary(row, names, held, tasks, now)), nodes=nodes)


def summary(row: Acceleration, names: Names, held: Sequence[Holding] | Sequence[Sum], tasks: int, now: datetime) -> AccelerationSummary:
    """An acceleration with the progress of its pull, and how many tasks mount it."""
    state = State(row.state)
    version = row.pulling if row.pulling is not None else row.current
    pull = [one for one in held if one.version == version]
    progress = progress_of(row, sum(one.bytes for one in pull), sum(one.bytes_total for one in pull), now)
    left = changes.left_seconds(row, now)
    waits = state in (State.ACTIVE, State.EXPIRING) and not tasks
    return AccelerationSummary(
        id=row.id,
        volume=names.volume,
        region=names.region,
        owner=row.owner,
        state=state.value,
        state_zh=state.chinese,
        condition=Condition(row.condition).value,
        reason=row.reason,
        mountable=changes.is_mountable(row),
        current=row.current,
        pulling=row.pulling,
        selection=SelectionDocument.model_validate(row.selection),
        placement=PlacementDocument.model_validate(row.placement),
        tasks=tasks,
        expire_seconds=row.expire_seconds,
        release_seconds=row.release_seconds,
        keep_versions=row.keep_versions,
        refresh_every_seconds=row.refresh_every_seconds,
        bytes_held=sum(one.bytes for one in held),
        files=sum(one.files for one in pull),
        files_total=sum(one.files_total for one in pull),
        bytes=progress.bytes,
        bytes_total=progress.bytes_total,
        bytes_per_second=progress.bytes_per_second,
        seconds_left=progress.seconds_left,
        expires_in_seconds=left["expire"] if waits and state == State.ACTIVE else None,
        released_in_seconds=left["release"] if waits else None,
        revision=row.revision,
        created=row.created,
        changed=row.changed,
    )


def version_shown(version: Version, current: int | None, whole: kept.Whole) -> VersionDocument:
    return VersionDocument(
        number=version.number,
        label=version.label,
        files=version.files,
        bytes=version.bytes,
        skipped=version.skipped,
        created=version.created,
        current=version.number == current,
        pulled=version.pulled,
        whole=whole,
    )
