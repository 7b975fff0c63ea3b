"""`/v1/tokens` and `POST /v1/login`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, field_validator

from headrace.control.events.service import Subject, record
from headrace.control.idempotency import Key, Replayable
from headrace.control.pages import After, Limit, PageOf, page_of
from headrace.control.problems import Finding, Text, Wrong, refused
from headrace.control.requests import Bearer, Control, Guarded, allowed
from headrace.control.texts import IdPath, Line
from headrace.control.tokens import service
from headrace.control.tokens.caller import SCOPES, Caller
from headrace.control.tokens.models import Token
from headrace.printable import printable

router = APIRouter(prefix="/v1", tags=["tokens"], route_class=Guarded)


class TokenCreation(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[Line, Field(max_length=128)]
    subject: Annotated[Line, Field(max_length=128, description="Whoever it stands for: the owner of what it creates.")]
    role: Literal["user", "admin"] = "user"
    scopes: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=64)] = ["*"]
    lasts_seconds: Annotated[int, Field(ge=60, le=366 * 86_400)] = 90 * 86_400

    @field_validator("scopes")
    @classmethod
    def _known(cls, scopes: list[str]) -> list[str]:
        unknown = sorted(set(scopes) - {*SCOPES, "*"})
        if unknown:
            known = ", ".join(("*", *SCOPES))
            shown = printable(unknown[0])
            raise Wrong(Text(f"there is no scope {shown}", f"没有权限范围 {shown}"), Text(f"choose of {known}", f"请从 {known} 中选择"))
        return scopes


class TokenDocument(BaseModel):
    """A token, without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    subject: str
    role: str
    scopes: list[str]
    one_time: bool
    created: datetime
    expires: datetime


class NewToken(TokenDocument):
    """A token that was just made; its text is shown this once."""

    token: str


def must_be_within(caller: Caller, body: TokenCreation, now: datetime) -> None:
    """A token that is limited makes none that may more, and none that outlasts it. Raises the problem `forbidden` or `invalid`."""
    if "*" in caller.scopes:
        return
    if more := sorted(set(body.scopes) - set(caller.scopes)):
        raise refused("forbidden", needed=Text(f"the scope {more[0]}, to give it away", f"权限范围 {more[0]}，因而不能授予"))
    left = int((caller.expires - now).total_seconds())
    if body.lasts_seconds > left:
        cause = Text("it would outlast the token that makes it", "有效期将超过创建它的令牌")
        remedy = Text(f"give {max(left, 0)} or less, or use a token with the scope *", f"请填写不超过 {max(left, 0)} 的值，或使用权限范围为 * 的令牌")
        raise refused("invalid", [Finding("lasts_seconds", "outlasts-maker", cause, remedy)])


def _new(row: Token, text: str) -> NewToken:
    return NewToken(token=text, **TokenDocument.model_validate(row).model_dump())


@router.post("/login", operation_id="login", status_code=201)
async def login(control: Control, bearer: Bearer) -> NewToken:
    """Exchanges a one-time token, sent as the bearer, for one that lasts 90 days."""
    if bearer is None:
        raise refused("unauthenticated")
    async with control.database.writing() as session:
        row, text = await service.exchange(session, control.clock, bearer.credentials)
        record(session, control.clock, _subject(row), "token-exchanged", row.subject)
    return _new(row, text)


@router.post("/tokens", operation_id="create_token", status_code=201)
async def create_token(body: TokenCreation, control: Control, caller: Annotated[Caller, allowed("tokens:write")], key: Key = None) -> NewToken:
    """Makes a token. For administrators. What the maker's own token may not do, a new one may not either."""
    must_be_within(caller, body, control.clock.now())
    async with control.database.writing() as session:
        once = Replayable(control, session, caller, "create_token", key, body)
        if (before := await once.claim(NewToken)) is not None:
            return before
        row, text = await service.create(
            session,
            control.clock,
            name=body.name,
            subject=body.subject,
            role=body.role,
            scopes=body.scopes,
            lasts=timedelta(seconds=body.lasts_seconds),
        )
        record(session, control.clock, _subject(row), "token-created", caller.subject, role=row.role, scopes=row.scopes)
        return await once.keep(_new(row, text))


@router.get("/tokens", operation_id="list_tokens")
async def list_tokens(
    control: Control, _caller: Annotated[Caller, allowed("tokens:read")], after: After = None, limit: Limit = 50
) -> PageOf[TokenDocument]:
    """Tokens, without their secrets. For administrators."""
    async with control.database.reading() as session:
        found = await service.listed(session, after=after, limit=limit)
    return page_of(TokenDocument, found)


@router.delete("/tokens/{identifier}", operation_id="revoke_token", status_code=204)
async def revoke_token(identifier: IdPath, control: Control, caller: Annotated[Caller, allowed("tokens:write")]) -> None:
    """Ends a token at once. For administrators."""
    async with control.database.writing() as session:
        row = await service.revoke(session, control.clock, identifier)
        record(session, control.clock, _subject(row), "token-revoked", caller.subject)


def _subject(row: Token) -> Subject:
    return Subject("token", row.id, row.name, row.subject)
