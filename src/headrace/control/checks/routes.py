"""`/v1/node/checks`: what nodes ask and tell of connection checks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from headrace.control.checks import service
from headrace.control.checks.documents import CheckAnswer, CheckLease, QuestionDocument
from headrace.control.nodes.identity import OfNode
from headrace.control.requests import Control, Guarded
from headrace.control.texts import IdPath

router = APIRouter(prefix="/v1/node/checks", tags=["nodes"], route_class=Guarded)

_RENEWALS = 3
HeldLease = Annotated[int, Query(ge=1, le=2**31 - 1, description="The lease that the node holds.")]


@router.get("/{identifier}", operation_id="node_check")
async def node_check(identifier: IdPath, lease: HeldLease, control: Control, identity: OfNode) -> QuestionDocument:
    """What is to be checked, with the keys to do so; for the node that holds the lease."""
    async with control.database.reading() as session:
        said, seconds = await service.question_of(session, control.vault, control.clock, identifier, identity.id, lease)
    return QuestionDocument(**said, seconds=seconds, renew_seconds=service.LEASE.total_seconds() / _RENEWALS)


@router.post("/{identifier}/renew", operation_id="renew_check", status_code=204)
async def renew_check(identifier: IdPath, body: CheckLease, control: Control, identity: OfNode) -> None:
    """The node still checks."""
    async with control.database.writing() as session:
        await service.renew(session, control.clock, identifier, identity.id, body.lease)


@router.post("/{identifier}", operation_id="answer_check", status_code=204)
async def answer_check(identifier: IdPath, body: CheckAnswer, control: Control, identity: OfNode) -> None:
    """What the node found."""
    async with control.database.writing() as session:
        await service.answer(session, control.clock, identifier, identity.id, body.lease, body.found())
