"""Tasks as they are asked for, and as they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from headrace.control.accelerations.node_documents import OriginDocument, VersionWanted
from headrace.control.accelerations.progress import Progress
from headrace.control.problems import Text, Wrong
from headrace.control.tasks import paths
from headrace.control.tasks.models import Task, TaskMount
from headrace.control.tasks.service import LEASE_SECONDS, WantedMount
from headrace.control.texts import LabelValue, Line, Name, Sought, SoughtId, SoughtName, told
from headrace.mount_paths import PATH_BYTES_MAX

Lasts = Annotated[int, Field(ge=30, le=3600, description="Seconds that the lease lasts from each renewal on.")]
Lease = Annotated[int, Field(ge=1, le=2**31 - 1)]
MountPath = Annotated[str, Field(max_length=PATH_BYTES_MAX), AfterValidator(paths.checked)]
_MOUNTS_MAX = 32
_VERSION_MAX = 63
SoughtVersion = Annotated[str, Field(max_length=_VERSION_MAX), Sought]


class MountWanted(BaseModel):
    """A volume at a path. Without a version it is the current one, and stays that; with `follow`, and no version, it is whichever is current."""

    model_config = ConfigDict(extra="forbid")

    volume: SoughtName
    path: MountPath
    version: Annotated[SoughtVersion | None, Field(description="A number, as `v3`, or a label.")] = None
    follow: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> MountWanted:
        if self.follow and self.version is not None:
            raise Wrong(
                Text("it names a version, and is to follow new ones", "既指定了版本，又要求跟随新版本"),
                Text("leave out the version, or `follow`", "请去掉版本或 `follow`"),
            )
        return self

    def of(self, acceleration_id: str, volume: str) -> WantedMount:
        return WantedMount(acceleration_id, volume, self.path, self.version, self.follow)


class TaskCreation(BaseModel):
    """A task to start. Where a node is named, that node serves its mounts, to the user of the machine that is named."""

    model_config = ConfigDict(extra="forbid")

    region: SoughtName
    node: SoughtId | None = None
    user: Annotated[int | None, Field(ge=0, lt=2**32, description="The machine's user (uid) that mounts.")] = None
    name: Name | None = None
    lasts_seconds: Lasts = LEASE_SECONDS
    mounts: Annotated[list[MountWanted], Field(min_length=1, max_length=_MOUNTS_MAX)]

    @model_validator(mode="after")
    def _whole(self) -> TaskCreation:
        paths.apart([mount.path for mount in self.mounts])
        return self


class Renewal(BaseModel):
    """A lease to renew, by its fencing token."""

    model_config = ConfigDict(extra="forbid")

    lease: Lease


class Attachment(BaseModel):
    """A lease to take over."""

    model_config = ConfigDict(extra="forbid")

    lasts_seconds: Lasts = LEASE_SECONDS


class Ending(BaseModel):
    """A task to end; with a lease only if that is the one in force."""

    model_config = ConfigDict(extra="forbid")

    lease: Lease | None = None


class Placing(BaseModel):
    """What a node for a task should have."""

    model_config = ConfigDict(extra="forbid")

    region: SoughtName
    labels: Annotated[dict[Line, LabelValue], Field(max_length=64)] = {}
    volumes: Annotated[list[SoughtName], Field(max_length=_MOUNTS_MAX)] = []
    room_bytes: Annotated[int, Field(ge=0, le=2**62, description="Free in the cache at least.")] = 0


class Placed(BaseModel):
    """A node that fits."""

    node: str
    name: str
    labels: dict[str, str]
    free_bytes: int
    held_bytes: Annotated[int, Field(description="Of the volumes named, held there already.")]
    tasks: int


class PullDocument(BaseModel):
    """How far the pull of what is mounted is."""

    state: str
    bytes: int
    bytes_total: int
    seconds_left: float | None


class MountDocument(BaseModel):
    """A volume at a path."""

    volume: str
    acceleration: str
    path: str
    version: int | None
    follow: bool
    mountable: bool
    pull: PullDocument | None


class TaskDocument(BaseModel):
    """A task. It waits until everything that it mounts has a version."""

    id: str
    name: str
    region: str
    node: str | None
    user: int | None
    owner: str
    state: Literal["waiting", "running", "ended"]
    lease: Annotated[int, Field(description="Fencing token of the lease.")]
    lease_until: datetime
    end: Literal["", "done", "lease", "lost"]
    ended_because: dict[str, str]
    mounts: list[MountDocument]
    created: datetime
    ended: datetime | None


class NodeMount(BaseModel):
    """What a node is to mount for a task."""

    acceleration: str
    path: str
    follow: bool
    origin: OriginDocument
    version: VersionWanted | None


class NodeTask(BaseModel):
    """A task, as its node is told of it."""

    id: str
    name: str
    owner: str
    user: int | None
    lease: int
    mounts: list[NodeMount]


class HeldLease(BaseModel):
    """A task whose mounts a node has."""

    model_config = ConfigDict(extra="forbid")

    id: SoughtId
    lease: Lease


class EndedLease(HeldLease):
    """A task whose mounts are gone from a node."""

    reason: Annotated[str, told(254)] = ""


class NodeTasks(BaseModel):
    """Every task that a node has mounts for, and those that have ended since."""

    model_config = ConfigDict(extra="forbid")

    held: Annotated[list[HeldLease], Field(max_length=2000)] = []
    ended: Annotated[list[EndedLease], Field(max_length=200)] = []


class Gone(BaseModel):
    """Tasks that a node should not serve any longer."""

    gone: list[str]


def shown(row: Task, region: str, mounts: Sequence[TaskMount], versions: Mapping[int, int | None], pulls: Mapping[str, Progress]) -> TaskDocument:
    """A task with its mounts; `versions` are those that its mounts read now, `pulls` what it mounts, by id."""
    shown_mounts = [_mount(row, mount, versions, pulls.get(mount.acceleration_id)) for mount in mounts]
    waits = not all(mount.mountable for mount in shown_mounts)
    return TaskDocument(
        id=row.id,
        name=row.name,
        region=region,
        node=row.node_id,
        user=row.user_id,
        owner=row.owner,
        state="ended" if row.ended is not None else "waiting" if waits else "running",
        lease=row.lease,
        lease_until=row.lease_until,
        end=row.end,  # type: ignore[arg-type]
        ended_because=row.because,
        mounts=shown_mounts,
        created=row.created,
        ended=row.ended,
    )


def _mount(row: Task, mount: TaskMount, versions: Mapping[int, int | None], pull: Progress | None) -> MountDocument:
    version = mount.version if row.ended is not None else versions.get(mount.ordinal)
    if version is None and mount.follow and pull is not None and row.ended is None:
        version = pull.current
    progress = PullDocument(state=pull.state, bytes=pull.bytes, bytes_total=pull.bytes_total, seconds_left=pull.seconds_left) if pull else None
    return MountDocument(
        volume=mount.volume,
        acceleration=mount.acceleration_id,
        path=mount.path,
        version=version,
        follow=mount.follow,
        mountable=version is not None and row.ended is None,
        pull=progress,
    )
