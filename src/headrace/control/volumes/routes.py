"""`/v1/volumes` and `/v1/providers`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr, computed_field, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import service as accelerations
from headrace.control.events.service import Subject, record
from headrace.control.idempotency import Key, Replayable
from headrace.control.pages import After, Limit, PageOf, page_of
from headrace.control.problems import Finding, Wrong, refused
from headrace.control.problems import Text as Sentence
from headrace.control.regions import service as regions
from headrace.control.requests import Control, ControlPlane, Guarded, allowed
from headrace.control.revisions import IfMatch, etag, must_match, must_not_differ
from headrace.control.texts import Name, NamePath, SoughtName
from headrace.control.tokens.caller import Caller
from headrace.control.volumes import service
from headrace.control.volumes.check import check
from headrace.control.volumes.models import Volume
from headrace.control.volumes.origin import Credentials, Origin
from headrace.control.volumes.providers import PROVIDERS

router = APIRouter(prefix="/v1", tags=["volumes"], route_class=Guarded)

Reader = Annotated[Caller, allowed("volumes:read")]
Writer = Annotated[Caller, allowed("volumes:write")]
ProviderName = Literal["aliyun-oss", "tencent-cos", "aws-s3", "s3"]
Text = Annotated[str, Field(max_length=1024)]
Secret = Annotated[SecretStr, Field(max_length=8192)]
# A signed 64-bit number, as the database keeps it.
Bytes = Annotated[int, Field(ge=0, le=2**62)]
_HERE = "control plane"
_TURN_SECONDS = 10.0


class Keys(BaseModel):
    """Credentials: an access key and its secret, with a session token where they are temporary; or anonymous."""

    model_config = ConfigDict(extra="forbid")

    access_key: Secret = SecretStr("")
    secret_key: Secret = SecretStr("")
    session_token: Secret = SecretStr("")
    anonymous: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Keys:
        given = bool(self.access_key.get_secret_value()), bool(self.secret_key.get_secret_value())
        if self.anonymous and (any(given) or self.session_token.get_secret_value()):
            raise Wrong(Sentence("anonymous and keys exclude each other", "匿名与密钥不能同时使用"), Sentence("give one of them", "请只选其一"))
        if not self.anonymous and not all(given):
            raise Wrong(
                Sentence("an access key and its secret come together", "访问密钥与其私钥须同时给出"),
                Sentence("give both, or anonymous", "请同时填写，或选择匿名"),
            )
        for secret in (self.access_key, self.secret_key, self.session_token):
            if any(not "!" <= letter <= "~" for letter in secret.get_secret_value()):
                raise Wrong(Sentence("keys are ASCII without blanks", "密钥只含 ASCII 字符且无空格"), Sentence("copy them again", "请重新复制"))
        return self

    def credentials(self) -> Credentials:
        return Credentials(self.access_key.get_secret_value(), self.secret_key.get_secret_value(), self.session_token.get_secret_value())


class VolumeCreation(BaseModel):
    """A volume to register."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    provider: ProviderName = "s3"
    region: Annotated[str, Field(max_length=64)] = ""
    endpoint: Annotated[Text, Field(max_length=512, description="Without a scheme it is HTTPS; empty for the provider's own.")] = ""
    addressing: Literal["auto", "virtual", "path"] = "auto"
    bucket: Annotated[Text, Field(max_length=255)]
    directory: Annotated[Text, Field(description="Directory to accelerate; the root of the bucket needs confirm_root.")] = ""
    confirm_root: bool = False
    read_only: Annotated[bool, Field(description="Do not try whether the bucket can be written.")] = False
    bandwidth: Annotated[Bytes, Field(description="Most bytes a second from this origin, by all nodes together; 0 is no ceiling.")] = 0
    requests: Annotated[int, Field(ge=0, le=10**6, description="Most requests a second, likewise.")] = 0
    credentials: Keys

    def described(self) -> service.Described:
        return service.Described(**self.model_dump(exclude={"credentials"}))


class VolumeEdit(BaseModel):
    """What to change of a volume; what is absent stays.

    Credentials are rotated by an operation of their own; they are needed here where requests will go to another server.
    """

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    provider: ProviderName | None = None
    region: Annotated[str, Field(max_length=64)] | None = None
    endpoint: Annotated[str, Field(max_length=512)] | None = None
    addressing: Literal["auto", "virtual", "path"] | None = None
    bucket: Annotated[str, Field(max_length=255)] | None = None
    directory: Text | None = None
    confirm_root: bool | None = None
    read_only: bool | None = None
    bandwidth: Bytes | None = None
    requests: Annotated[int, Field(ge=0, le=10**6)] | None = None
    credentials: Keys | None = None


class FindingDocument(BaseModel):
    """What a check found."""

    field: str
    code: str
    level: Literal["error", "warning", "note"]
    cause: dict[str, str]
    remedy: dict[str, str]


class VolumeDocument(BaseModel):
    """A volume. Its secrets are not in it."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    owner: str
    provider: str
    region: str
    endpoint: str
    addressing: Annotated[str, Field(description="As it was said.")]
    addressing_used: Annotated[str, Field(description="What it came to: virtual or path.")]
    bucket: str
    directory: str
    anonymous: bool
    access_key_hint: str
    read_only: bool
    bandwidth: int
    requests: int
    findings: list[FindingDocument]
    checked: datetime
    checked_from: str
    revision: int
    created: datetime
    changed: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def etag(self) -> str:
        """What an edit sends as If-Match."""
        return etag(self.id, self.revision)


class CheckDocument(BaseModel):
    """A connection check: where it ran and what it found."""

    passed: bool
    checked_from: str
    findings: list[FindingDocument]


class ProviderDocument(BaseModel):
    """A provider's preset, for forms."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    title: str
    title_zh: str
    key_names: tuple[str, str]
    addressing: str
    endpoint: str | None
    internal: str | None
    region_example: str


@router.get("/providers", operation_id="list_providers")
async def list_providers(_caller: Reader) -> list[ProviderDocument]:
    """Providers, with the shape of their endpoints and what they call their keys."""
    return [ProviderDocument.model_validate(provider) for provider in PROVIDERS.values()]


@router.post("/volumes", operation_id="create_volume", status_code=201)
async def create_volume(body: VolumeCreation, control: Control, caller: Writer, response: Response, key: Key = None) -> VolumeDocument:
    """Registers a volume, after a connection check from here. One that fails stores nothing."""
    async with control.database.writing() as session:
        if (before := await Replayable(control, session, caller, "create_volume", key, body).answer(VolumeDocument)) is not None:
            return _tagged(response, before)
        await service.must_be_free(session, body.name)
    checked = await _passed(control, body.described(), body.credentials.credentials())
    async with control.database.writing() as session:
        once = Replayable(control, session, caller, "create_volume", key, body)
        if (before := await once.claim(VolumeDocument)) is not None:
            return _tagged(response, before)
        row = await service.create(session, control.vault, control.clock, caller, body.described(), checked)
        record(session, control.clock, _subject(row), "volume-created", caller.subject, bucket=row.bucket, directory=row.directory)
        return _tagged(response, await once.keep(VolumeDocument.model_validate(row)))


@router.post("/volumes/check", operation_id="check_new_volume")
async def check_new_volume(body: VolumeCreation, control: Control, _caller: Writer) -> CheckDocument:
    """Tries a connection without storing anything."""
    origin = body.described().origin()
    findings = await _checked(control, origin, body.credentials.credentials(), read_only=body.read_only)
    return _check_document(findings)


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
        said = replace(_with_endpoint_kept(row, body), **body.model_dump(exclude_none=True, exclude={"credentials"}))
        if said.name != row.name:
            await service.must_be_free(session, said.name)
        if body.credentials is None:
            service.must_not_lend_keys(row, said.origin())
            credentials = await service.credentials_of(session, control.vault, row)
        else:
            credentials = body.credentials.credentials()
    checked = await _passed(control, said, credentials)
    async with control.database.writing() as session:
        row = await service.find(session, caller, name, lock=True)
        must_match(if_match, row.id, row.revision)
        await _must_be_idle(session, row, "edit")
        await service.edit(session, control.vault, control.clock, row, said, checked, new_keys=body.credentials is not None)
        record(session, control.clock, _subject(row), "volume-edited", caller.subject, fields=sorted(body.model_fields_set))
        return _tagged(response, VolumeDocument.model_validate(row))


@router.post("/volumes/{name}/credentials", operation_id="rotate_credentials")
async def rotate_credentials(name: NamePath, body: Keys, control: Control, caller: Writer, response: Response) -> VolumeDocument:
    """Replaces a volume's credentials, after a check with the new ones. Possible in every state; what is cached stays."""
    async with control.database.reading() as session:
        row = await service.find(session, caller, name)
        origin, read_only = service.origin_in(row), row.read_only
    checked = await _passed_as(control, origin, body.credentials(), read_only=read_only)
    async with control.database.writing() as session:
        row = await service.find(session, caller, name, lock=True)
        if service.origin_in(row) != origin:
            raise refused("revision-changed")
        await service.rotate(session, control.vault, control.clock, row, checked)
        record(session, control.clock, _subject(row), "credentials-rotated", caller.subject)
        return _tagged(response, VolumeDocument.model_validate(row))


@router.post("/volumes/{name}/check", operation_id="check_volume")
async def check_volume(name: NamePath, control: Control, caller: Writer) -> CheckDocument:
    """Repeats the connection check of a volume, and keeps what it finds."""
    async with control.database.reading() as session:
        row = await service.find(session, caller, name)
        origin, read_only = service.origin_in(row), row.read_only
        credentials = await service.credentials_of(session, control.vault, row)
    findings = await _checked(control, origin, credentials, read_only=read_only)
    async with control.database.writing() as session:
        row = await service.find(session, caller, name, lock=True)
        if service.origin_in(row) == origin:
            service.note_check(control.clock, row, service.Checked(origin, credentials, findings, _HERE))
            record(session, control.clock, _subject(row), "volume-checked", caller.subject, passed=_passes(findings))
    return _check_document(findings)


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
    busy = await accelerations.busy_regions(session, row.id)
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


async def _passed(control: ControlPlane, said: service.Described, credentials: Credentials) -> service.Checked:
    return await _passed_as(control, said.origin(), credentials, read_only=said.read_only)


async def _passed_as(control: ControlPlane, origin: Origin, credentials: Credentials, *, read_only: bool) -> service.Checked:
    """The origin, checked. Raises the problem `check-failed` with what was found."""
    findings = await _checked(control, origin, credentials, read_only=read_only)
    if not _passes(findings):
        raise refused("check-failed", findings)
    return service.Checked(origin, credentials, findings, _HERE)


async def _checked(control: ControlPlane, origin: Origin, credentials: Credentials, *, read_only: bool) -> list[Finding]:
    """A connection check, when it is its turn. Raises the problem `too-many-checks`."""
    try:
        await asyncio.wait_for(control.checks.acquire(), _TURN_SECONDS)
    except TimeoutError:
        raise refused("too-many-checks") from None
    try:
        return await check(origin, credentials, control.settings.origins, read_only=read_only)
    finally:
        control.checks.release()


def _passes(findings: Sequence[Finding]) -> bool:
    return all(finding.level != "error" for finding in findings)


def _check_document(findings: Sequence[Finding]) -> CheckDocument:
    documents: list[Any] = [finding.document() for finding in findings]
    return CheckDocument(passed=_passes(findings), checked_from=_HERE, findings=documents)


def _tagged(response: Response, document: VolumeDocument) -> VolumeDocument:
    response.headers["ETag"] = document.etag
    return document


def _subject(row: Volume) -> Subject:
    return Subject("volume", row.id, row.name, row.owner)
