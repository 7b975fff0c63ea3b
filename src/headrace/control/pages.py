"""Lists in pages: a cursor names the last item seen, so that pages neither repeat nor leave out what stays, whatever comes and goes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from headrace.control.problems import Finding, Text, refused

_CURSOR_MAX = 512

Row = TypeVar("Row")
Document = TypeVar("Document", bound=BaseModel)

After = Annotated[str | None, Query(max_length=_CURSOR_MAX, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=500, description="Most items of a page.")]


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Items, and the cursor of the next page where there is one."""

    items: Sequence[Row]
    next: str | None


class PageOf(BaseModel, Generic[Document]):
    """A page of a list."""

    items: list[Document]
    next: str | None


def page_of(kind: type[Document], found: Page[Any]) -> PageOf[Document]:
    """The page as it is sent."""
    return PageOf(items=[kind.model_validate(row) for row in found.items], next=found.next)


async def page(
    session: AsyncSession, query: Select[Row], key: InstrumentedAttribute[str], *, after: str | None, limit: int, newest_first: bool = False
) -> Page[Row]:
    """A page of what the query finds, in the order of `key`, which no two rows share."""
    if after is not None:
        last = _last(after)
        query = query.where(key < last if newest_first else key > last)
    ordered = query.order_by(key.desc() if newest_first else key.asc()).limit(limit + 1)
    rows = (await session.scalars(ordered)).all()
    more = len(rows) > limit
    rows = rows[:limit]
    return Page(rows, _cursor(getattr(rows[-1], key.key)) if more else None)


def _cursor(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def _last(cursor: str) -> str:
    try:
        last = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        last = "\0"
    # PostgreSQL has no text with a NUL in it.
    if "\0" in last:
        cause = Text("it is no cursor of a page", "不是有效的分页游标")
        remedy = Text("send `next` of the page before, or nothing for the first", "请使用上一页返回的 `next`，首页则不传")
        raise refused("invalid", [Finding("after", "bad-cursor", cause, remedy)])
    return last
