"""`GET /v1/usage`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, Field

from headrace.control.pages import After, Limit, PageOf
from headrace.control.problems import Text, Wrong
from headrace.control.requests import Control, Guarded, allowed
from headrace.control.texts import SoughtName
from headrace.control.tokens.caller import Caller
from headrace.control.usage import service

router = APIRouter(prefix="/v1/usage", tags=["usage"], route_class=Guarded)

_YEAR_MAX = 9000


def _instant(at: datetime) -> datetime:
    """A time without a zone is UTC."""
    if not 1970 <= at.year <= _YEAR_MAX:
        raise Wrong(Text("it is no time of our days", "时间超出范围"), Text("write it as 2026-11-29T08:00:00Z", "请写成 2026-11-29T08:00:00Z 的形式"))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


Time = Annotated[datetime | None, Query(), AfterValidator(lambda at: None if at is None else _instant(at))]


class UsageDocument(BaseModel):
    """An hour of an acceleration. Bytes that were moved are counted in the hour in which a node tells of them, about a minute later."""

    hour: datetime
    volume: str
    region: str
    owner: str
    byte_hours: Annotated[float, Field(description="Bytes held, times hours.")]
    bytes_max: Annotated[int, Field(description="The most that was held at a time.")]
    origin_bytes: Annotated[
        int,
        Field(
            description="Bytes of files that nodes received from the bucket, for whatever reason, what was tried again included; not lists, nor what"
            " connection checks read."
        ),
    ]
    served_bytes: Annotated[
        int,
        Field(
            description="Bytes that nodes answered reads of tasks with, from the cache or the bucket. What the kernel answers by itself, from pages"
            " that it has kept or from complete files, is not in it."
        ),
    ]
    opened_bytes: Annotated[
        int,
        Field(
            description="Bytes of complete files, at each opening by a task after which the kernel reads the file without the node: its whole size,"
            " however little of it is read then, or how often."
        ),
    ]


@router.get("", operation_id="list_usage")
async def list_usage(
    control: Control,
    caller: Annotated[Caller, allowed("usage:read")],
    after: After = None,
    limit: Limit = 50,
    volume: Annotated[SoughtName | None, Query()] = None,
    region: Annotated[SoughtName | None, Query()] = None,
    since: Time = None,
    until: Time = None,
) -> PageOf[UsageDocument]:
    """加速用量 by hour, oldest first; also of what was released or deleted since. A user sees that of own volumes."""
    async with control.database.reading() as session:
        found = await service.listed(session, caller, after=after, limit=limit, volume=volume, region=region, since=since, until=until)
    items = [
        UsageDocument(
            hour=row.hour,
            volume=row.volume,
            region=row.region,
            owner=row.owner,
            byte_hours=service.byte_hours(row),
            bytes_max=row.bytes_max,
            origin_bytes=row.origin_bytes,
            served_bytes=row.served_bytes,
            opened_bytes=row.opened_bytes,
        )
        for row in found.items
    ]
    return PageOf(items=items, next=found.next)
