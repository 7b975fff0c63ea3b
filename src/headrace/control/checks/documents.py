"""Checks as nodes are asked for them, and as they answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headrace.checking.findings import Finding, passes
from headrace.control.problems import Text, Wrong
from headrace.control.texts import told

Lease = Annotated[int, Field(ge=1, le=2**31 - 1)]
Sentence = Annotated[str, told(1000)]
_FINDINGS_MAX = 50


class CheckWanted(BaseModel):
    """A connection check, under a lease."""

    id: str
    lease: int


class OriginAsked(BaseModel):
    """Where the bytes would be."""

    provider: str
    region: str
    endpoint: str
    addressing: str
    bucket: str
    directory: str


class KeysAsked(BaseModel):
    """Keys to check with; empty for none."""

    access_key: str
    secret_key: str
    session_token: str


class AddressesAsked(BaseModel):
    """Networks that the endpoint may be in although they are denied, and those that are."""

    allow: list[str]
    deny: list[str]


class QuestionDocument(BaseModel):
    """What a node is to check, within how many seconds, and how often it is to renew its lease meanwhile."""

    origin: OriginAsked
    credentials: KeysAsked
    rules: AddressesAsked
    read_only: bool
    seconds: float
    renew_seconds: float


class CheckLease(BaseModel):
    """The lease that a node holds on a check."""

    model_config = ConfigDict(extra="forbid")

    lease: Lease


class Told(BaseModel):
    """A sentence in both languages."""

    model_config = ConfigDict(extra="forbid")

    en: Sentence
    zh: Sentence


class FoundByNode(BaseModel):
    """What a check found."""

    model_config = ConfigDict(extra="forbid")

    field: Annotated[str, told(64)]
    code: Annotated[str, told(64)]
    level: Literal["error", "warning", "note"]
    cause: Told
    remedy: Told


class CheckAnswer(BaseModel):
    """What a node found, and whether nothing of it stands in the way."""

    model_config = ConfigDict(extra="forbid")

    lease: Lease
    passed: bool
    findings: Annotated[list[FoundByNode], Field(max_length=_FINDINGS_MAX)]

    @model_validator(mode="after")
    def _whole(self) -> CheckAnswer:
        if self.passed != passes(self.found()):
            raise Wrong(Text("a check with an error has not passed", "含有错误的校验并未通过"), Text("say what was found", "请如实填写"))
        return self

    def found(self) -> list[Finding]:
        return [Finding.read(finding.model_dump()) for finding in self.findings]
