"""`GET /v1/events`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict

from headrace.control.events import service
from headrace.control.pages import After, Limit, PageOf, page_of
from headrace.control.requests import Control, Guarded, allowed
from headrace.control.texts import SoughtId, SoughtName
from headrace.control.tokens.caller import Caller

router = APIRouter(prefix="/v1/events", tags=["events"], route_class=Guarded)


class EventDocument(BaseModel):
    """One change."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    at: datetime
    kind: str
    noun: str
    object_id: str
    object_name: str
    owner: str
    who: str
    why: str
    detail: dict[str, Any]


@router.get("", operation_id="list_events")
async def list_events(
    control: Control,
    caller: Annotated[Caller, allowed("events:read")],
    after: After = None,
    limit: Limit = 50,
    noun: Annotated[SoughtName | None, Query(max_length=32)] = None,
    object_id: Annotated[SoughtId | None, Query()] = None,
    since: Annotated[AwareDatetime | None, Query(description="From this time on.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Before this time.")] = None,
) -> PageOf[EventDocument]:
    """What changed, newest first; a user sees what concerns own objects."""
    async with control.database.reading() as session:
        found = await service.listed(session, caller, after=after, limit=limit, noun=noun, object_id=object_id, since=since, until=until)
    return page_of(EventDocument, found)
