"""`/v1/volumes/{volume}/accelerations/{region}/comparisons`, and what nodes answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from headrace.control import streams
from headrace.control.accelerations import queries
from headrace.control.accelerations.changes import holding_nodes, situation
from headrace.control.accelerations.documents import Count
from headrace.control.accelerations.names import Names
from headrace.control.accelerations.states import Operation, must_allow
from headrace.control.accelerations.sweeping import candidates
from headrace.control.comparisons import service
from headrace.control.comparisons.models import Comparison
from headrace.control.nodes.identity import OfNode
from headrace.control.problems import Text, Wrong, refused
from headrace.control.regions import service as regions
from headrace.control.requests import Control, Guarded, allowed
from headrace.control.texts import IdPath, NamePath, told
from headrace.control.tokens.caller import Caller
from headrace.control.volumes import service as volumes

router = APIRouter(prefix="/v1", tags=["accelerations"], route_class=Guarded)

Reader = Annotated[Caller, allowed("accelerations:read")]
Writer = Annotated[Caller, allowed("accelerations:write")]
_ONE = "/volumes/{volume}/accelerations/{region}/comparisons"
_PATHS_MAX = 100
Paths = Annotated[list[Annotated[str, told(1024)]], Field(max_length=_PATHS_MAX)]


class Found(BaseModel):
    """What a refresh would bring: how many files, and the first paths of each kind."""

    model_config = ConfigDict(extra="forbid")

    new: Count
    changed: Count
    gone: Count
    files: Count
    bytes: Count
    new_paths: Paths = []
    changed_paths: Paths = []
    gone_paths: Paths = []


class ComparisonDocument(BaseModel):
    """A comparison of the origin with a version."""

    id: str
    state: Literal["running", "done", "failed"]
    version: int
    who: str
    error: str
    found: Found | None
    created: datetime
    ended: datetime | None


class Compared(BaseModel):
    """What a node answers: what it found, or why it could not."""

    model_config = ConfigDict(extra="forbid")

    lease: Annotated[int, Field(ge=1, le=2**31 - 1)]
    found: Found | None = None
    error: Annotated[str, told(1023)] = ""

    @model_validator(mode="after")
    def _whole(self) -> Compared:
        if (self.found is None) != bool(self.error):
            raise Wrong(Text("it is either found or an error", "须为结果或错误之一"), Text("send one of them", "请只发送其中之一"))
        return self


@router.post(_ONE, operation_id="compare_origin", status_code=201)
async def compare_origin(volume: NamePath, region: NamePath, control: Control, caller: Writer) -> ComparisonDocument:
    """Asks what a refresh would bring (`--dry-run`): a node lists the origin and compares; nothing is published."""
    async with control.database.writing() as session:
        names = Names(volume, region)
        volume_id, region_id = (await volumes.find(session, caller, volume)).id, (await regions.find(session, region)).id
        row = await queries.find(session, caller, volume_id, region_id, names, lock=True)
        must_allow(situation(row), Operation.REFRESH)
        there = await candidates(session, control.clock, region_id)
        nodes = holding_nodes(row, there) or {one.id for one in there}
        if not nodes or row.current is None:
            raise refused("no-nodes", region=region)
        return _document(await service.begin(session, control.clock, row.id, region_id, row.current, caller.subject, nodes))


@router.get(f"{_ONE}/{{identifier}}", operation_id="show_comparison")
async def show_comparison(volume: NamePath, region: NamePath, identifier: IdPath, control: Control, caller: Reader) -> ComparisonDocument:
    """What was found, once the node has answered."""
    async with control.database.reading() as session:
        volume_id, region_id = (await volumes.find(session, caller, volume)).id, (await regions.find(session, region)).id
        row = await queries.find(session, caller, volume_id, region_id, Names(volume, region))
        return _document(await service.find(session, row.id, identifier))


@router.get(f"{_ONE}/{{identifier}}/stream", operation_id="stream_comparison", response_class=streams.EventStream, responses=streams.ANSWERS)
async def stream_comparison(
    volume: NamePath, region: NamePath, identifier: IdPath, request: Request, control: Control, caller: Reader
) -> streams.EventStream:
    """A comparison as server-sent events, until it has ended."""
    return await streams.stream(
        control, request, lambda: show_comparison(volume, region, identifier, control, caller), lambda shown: shown.state != "running"
    )


@router.post("/node/comparisons/{identifier}", operation_id="answer_comparison", status_code=204, tags=["nodes"])
async def answer_comparison(identifier: IdPath, body: Compared, control: Control, identity: OfNode) -> None:
    """What a node found that was asked for a comparison."""
    async with control.database.writing() as session:
        found = body.found.model_dump() if body.found is not None else None
        await service.answer(session, control.clock, identifier, identity.id, body.lease, found, body.error)


def _document(row: Comparison) -> ComparisonDocument:
    state: Literal["running", "done", "failed"] = "running" if row.ended is None else "failed" if row.error else "done"
    return ComparisonDocument(
        id=row.id,
        state=state,
        version=row.version,
        who=row.who,
        error=row.error,
        found=Found.model_validate(row.found) if row.found is not None else None,
        created=row.created,
        ended=row.ended,
    )
