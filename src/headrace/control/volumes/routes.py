"""`/v1/volumes` and `/v1/providers`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.checking.findings import passes
from headrace.checking.providers import PROVIDERS
from headrace.control.accelerations import queries
from headrace.control.accelerations import service as accelerations
from headrace.control.events.service import Subject, record
from headrace.control.idempotency import Key, Replayable
from headrace.control.pages import After, Limit, PageOf, page_of
from headrace.control.problems import Text as Sentence
from headrace.control.problems import refused
from headrace.control.regions import service as regions
from headrace.control.requests import Control, Guarded, allowed
from headrace.control.revisions import IfMatch, must_match, must_not_differ
from headrace.control.texts import NamePath, SoughtName
from headrace.control.tokens.caller import Caller
from headrace.control.volumes import service
from headrace.control.volumes.checking import checked, passed
from headrace.control.volumes.documents import (
    CheckDocument,
    CheckRequest,
    NewKeys,
    ProviderDocument,
    ProviderName,
    VolumeCreation,
    VolumeDocument,
    VolumeEdit,
)
from headrace.control.volumes.models import Volume

router = APIRouter(prefix="/v1", tags=["volumes"], route_class=Guarded)

Reader = Annotated[Caller, allowed("volumes:read")]
Writer = Annotated[Caller, allowed("volumes:write")]


@router.get("/providers", operation_id="list_providers")
async def list_providers(_caller: Reader) -> list[ProviderDocument]:
    """Providers, with the shape of their endpoints and what they call their keys."""
    return [ProviderDocument.model_validate(provider) for provider in PROVIDERS.values()]


@router.post("/volumes", operation_id="create_volume", status_code=201)
async def create_volume(body: VolumeCreation, control: Control, caller: Writer, response: Response, key: Key = None) -> VolumeDocument:
    """Registers a volume, after a connection check. One that fails stores nothing."""
    async with control.database.writing() as session:
        # In this order: whoever takes the name in between may be this very request, which came to another replica too.
        taken = await service.is_taken(session, body.name)
        if (before := await Replayable(control, session, caller, "create_volume", key, body).answer(VolumeDocument)) is not None:
            return _tagged(response, before)
        if taken:
            raise refused("name-taken", noun="volume", name=body.name)
    said, keys = body.described(), body.credentials.credentials()
    done = await passed(control, said.origin(), keys, read_only=said.read_only, region=body.check_region)
    async with control.database.writing() as session:
        once = Replayable(control, session, caller, "create_volume", key, body)
        if (before := await once.claim(VolumeDocument)) is not None:
            return _tagged(response, before)
        row = await service.create(session, control.vault, control.clock, caller, said, done)
        record(session, control.clock, _subject(row), "volume-created", caller.subject, bucket=row.bucket, directory=row.directory)
        return _tagged(response, await once.keep(VolumeDocument.model_validate(row)))


@router.post("/volumes/check", operation_id="check_new_volume")
async def check_new_volume(body: VolumeCreation, control: Control, _caller: Writer) -> CheckDocument:
    """Tries a connection without storing anything."""
    origin = body.described().origin()
    done = await checked(control, origin, body.credentials.credentials(), read_only=body.read_only, region=body.check_region)
    return _check_document(done)


@router.get("/volumes", operation_id="list_volumes")
async def list_volumes(
    control: Control,
    caller: Reader,
    after: After = None,
    limit: Limit = 50,
    provider: ProviderName | None = None,
    name_contains: Annotated[SoughtName | None, Query()] = None,
) -> PageOf[VolumeDocument]:
    """Volumes, by name; a user sees own ones."""
    async with control.database.reading() as session:
        found = await service.listed(session, caller, after=after, limit=limit, provider=provider, text=name_contains)
    return page_of(VolumeDocument, found)


@router.get("/volumes/{name}", operation_id="show_volume")
async def show_volume(name: NamePath, control: Control, caller: Reader, response: Response) -> VolumeDocument:
    """One volume; its ETag is what an edit must send."""
    async with control.database.reading() as session:
        return _tagged(response, VolumeDocument.model_validate(await service.find(session, caller, name)))


@router.patch("/volumes/{name}", operation_id="edit_volume")
async def edit_volume(
    name: NamePath, body: VolumeEdit, control: Control, caller: Writer, response: Response, if_match: IfMatch = None
) -> VolumeDocument:
    """Changes a volume, after another connection check with what it would be."""
    async with control.database.reading() as session:
        row = await service.find(session, caller, name)
        must_match(if_match, row.id, row.revision)
        await _must_be_idle(session, row, "edit")
        said = replace(_with_endpoint_kept(row, body), **body.model_dump(exclude_none=True, exclude={"credentials", "check_region"}))
        if said.name != row.name:
            await service.must_be_free(session, said.name)
        if body.credentials is None:
            service.must_not_lend_keys(row, said.origin())
            credentials = await service.credentials_of(session, control.vault, row)
        else:
            credentials = body.credentials.credentials()
    done = await passed(control, said.origin(), credentials, read_only=said.read_only, region=body.check_region)
    async with control.database.writing() as session:
        row = await service.find(session, caller, name, lock=True)
        must_match(if_match, row.id, row.revision)
        await _must_be_idle(session, row, "edit")
        await service.edit(session, control.vault, control.clock, row, said, done, new_keys=body.credentials is not None)
        record(session, control.clock, _subject(row), "volume-edited", caller.subject, fields=sorted(body.model_fields_set - {"check_region"}))
        return _tagged(response, VolumeDocument.model_validate(row))


@router.post("/volumes/{name}/credentials", operation_id="rotate_credentials")
async def rotate_credentials(name: NamePath, body: NewKeys, control: Control, caller: Writer, response: Response) -> VolumeDocument:
    """Replaces a volume's credentials, after a check with the new ones. Possible in every state; what is cached stays."""
    async with control.database.reading() as session:
        row = await service.find(session, caller, name)
        origin, read_only = service.origin_in(row), row.read_only
    done = await passed(control, origin, body.credentials(), read_only=read_only, region=body.check_region)
    async with control.database.writing() as session:
        row = await service.find(session, caller, name, lock=True)
        if service.origin_in(row) != origin:
            raise refused("revision-changed")
        await service.rotate(session, control.vault, control.clock, row, done)
        for region_id in sorted(await queries.busy_regions(session, row.id)):
            await regions.bump(session, region_id)
        record(session, control.clock, _subject(row), "credentials-rotated", caller.subject)
        return _tagged(response, VolumeDocument.model_validate(row))


@router.post("/volumes/{name}/check", operation_id="check_volume")
async def check_volume(name: NamePath, control: Control, caller: Writer, body: CheckRequest | None = None) -> CheckDocument:
    """Repeats the connection check of a volume that is accelerated nowhere, and keeps what it finds."""
    async with control.database.reading() as session:
        row = await service.find(session, caller, name)
        await _must_be_idle(session, row, "check")
        origin, read_only = service.origin_in(row), row.read_only
        credentials = await service.credentials_of(session, control.vault, row)
    done = await checked(control, origin, credentials, read_only=read_only, region=body.check_region if body else None)
    async with control.database.writing() as session:
        row = await service.find(session, caller, name, lock=True)
        if service.origin_in(row) == origin:
            service.note_check(control.clock, row, done)
            detail: dict[str, Any] = {"passed": passes(done.findings), "checked_from": done.where}
            record(session, control.clock, _subject(row), "volume-checked", caller.subject, **detail)
    return _check_document(done)


@router.delete("/volumes/{name}", operation_id="delete_volume", status_code=204)
async def delete_volume(name: NamePath, control: Control, caller: Writer, if_match: IfMatch = None) -> None:
    """Forgets a volume. The bucket is not touched."""
    async with control.database.writing() as session:
        row = await service.find(session, caller, name, lock=True)
        must_not_differ(if_match, row.id, row.revision)
        await _must_be_idle(session, row, "delete")
        await accelerations.forget_volume(session, row.id)
        record(session, control.clock, _subject(row), "volume-deleted", caller.subject)
        await service.delete(session, row)


async def _must_be_idle(session: AsyncSession, row: Volume, operation: str) -> None:
    """Editing and deleting need every region idle. Starting takes this row's lock too, so that it can't begin in between."""
    busy = await queries.busy_regions(session, row.id)
    if busy:
        names = sorted((await regions.names(session, set(busy))).values())
        reason = Sentence(f"it is accelerated in {', '.join(names)}", f"正在 {'、'.join(names)} 加速")
        raise refused("state-forbids", operation=operation, reason=reason, remedy=Sentence("release it there first", "请先在这些地域释放"))


def _with_endpoint_kept(row: Volume, body: VolumeEdit) -> service.Described:
    """What was said before. The endpoint that a preset made is made anew where provider or region change."""
    said = service.described(row)
    if (body.provider or body.region) and said.endpoint == PROVIDERS[row.provider].endpoint_for(row.region):
        return replace(said, endpoint="")
    return said


def _check_document(done: service.Checked) -> CheckDocument:
    documents: list[Any] = [finding.document() for finding in done.findings]
    return CheckDocument(passed=passes(done.findings), checked_from=done.where, findings=documents)


def _tagged(response: Response, document: VolumeDocument) -> VolumeDocument:
    response.headers["ETag"] = document.etag
    return document


def _subject(row: Volume) -> Subject:
    return Subject("volume", row.id, row.name, row.owner)
