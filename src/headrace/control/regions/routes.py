"""`/v1/regions`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, computed_field

from headrace.control.accelerations import queries
from headrace.control.accelerations import service as accelerations
from headrace.control.events.service import Subject, record
from headrace.control.idempotency import Key, Replayable
from headrace.control.nodes import service as nodes
from headrace.control.pages import After, Limit, PageOf, page_of
from headrace.control.problems import Text, refused
from headrace.control.regions import service
from headrace.control.regions.models import Region
from headrace.control.requests import Control, Guarded, allowed
from headrace.control.revisions import IfMatch, etag, must_match, must_not_differ
from headrace.control.texts import Line, Name, NamePath
from headrace.control.tokens.caller import Caller

router = APIRouter(prefix="/v1/regions", tags=["regions"], route_class=Guarded)

Reader = Annotated[Caller, allowed("regions:read")]
Writer = Annotated[Caller, allowed("regions:write")]


class RegionCreation(BaseModel):
    """A region to add."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    title: Line | None = None
    title_zh: Line | None = None


class RegionEdit(BaseModel):
    """What to change of how a region is shown."""

    model_config = ConfigDict(extra="forbid")

    title: Line | None = None
    title_zh: Line | None = None


class RegionDocument(BaseModel):
    """A region: its name, and how it is shown in each language (浙江一区)."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    title: str
    title_zh: str
    revision: int
    created: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def etag(self) -> str:
        """What an edit sends as If-Match."""
        return etag(self.id, self.revision)


@router.post("", operation_id="create_region", status_code=201)
async def create_region(body: RegionCreation, control: Control, caller: Writer, response: Response, key: Key = None) -> RegionDocument:
    """Adds a region. For administrators."""
    async with control.database.writing() as session:
        once = Replayable(control, session, caller, "create_region", key, body)
        if (before := await once.claim(RegionDocument)) is not None:
            return _tagged(response, before)
        row = await service.create(session, control.clock, name=body.name, title=body.title or "", title_zh=body.title_zh or "")
        record(session, control.clock, _subject(row), "region-created", caller.subject)
        return _tagged(response, await once.keep(RegionDocument.model_validate(row)))


@router.get("", operation_id="list_regions")
async def list_regions(control: Control, _caller: Reader, after: After = None, limit: Limit = 50) -> PageOf[RegionDocument]:
    """Regions, by name."""
    async with control.database.reading() as session:
        found = await service.listed(session, after=after, limit=limit)
    return page_of(RegionDocument, found)


@router.get("/{name}", operation_id="show_region")
async def show_region(name: NamePath, control: Control, _caller: Reader, response: Response) -> RegionDocument:
    """One region."""
    async with control.database.reading() as session:
        return _tagged(response, RegionDocument.model_validate(await service.find(session, name)))


@router.patch("/{name}", operation_id="edit_region")
async def edit_region(
    name: NamePath, body: RegionEdit, control: Control, caller: Writer, response: Response, if_match: IfMatch = None
) -> RegionDocument:
    """Changes how a region is shown. For administrators."""
    async with control.database.writing() as session:
        row = await service.find(session, name, lock=True)
        must_match(if_match, row.id, row.revision)
        await service.edit(row, title=body.title, title_zh=body.title_zh)
        record(session, control.clock, _subject(row), "region-edited", caller.subject)
        return _tagged(response, RegionDocument.model_validate(row))


@router.delete("/{name}", operation_id="delete_region", status_code=204)
async def delete_region(name: NamePath, control: Control, caller: Writer, if_match: IfMatch = None) -> None:
    """Removes a region that has no nodes, and where nothing is accelerated. For administrators."""
    async with control.database.writing() as session:
        row = await service.find(session, name, lock=True)
        must_not_differ(if_match, row.id, row.revision)
        if there := await nodes.names_in(session, row.id):
            reason = Text(f"it has nodes ({', '.join(there[:5])})", f"其中仍有节点（{'、'.join(there[:5])}）")
            raise refused("state-forbids", operation="delete", reason=reason, remedy=Text("remove them first", "请先移除节点"))
        if await queries.in_region(session, row.id):
            reason = Text("volumes are accelerated there", "其中仍有加速中的数据卷")
            raise refused("state-forbids", operation="delete", reason=reason, remedy=Text("release them first", "请先释放"))
        await accelerations.forget_region(session, row.id)
        record(session, control.clock, _subject(row), "region-deleted", caller.subject)
        await nodes.forget_join_tokens(session, row.id)
        await service.delete(session, row)


def _tagged(response: Response, document: RegionDocument) -> RegionDocument:
    response.headers["ETag"] = document.etag
    return document


def _subject(row: Region) -> Subject:
    return Subject("region", row.id, row.name, "")
