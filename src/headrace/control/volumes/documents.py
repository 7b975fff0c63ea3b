"""Volumes as they are described, shown and checked, over the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, computed_field, model_validator

from headrace.checking.origin import Credentials
from headrace.control.problems import Text as Sentence
from headrace.control.problems import Wrong
from headrace.control.revisions import etag
from headrace.control.texts import Name, SoughtName
from headrace.control.volumes import service

ProviderName = Literal["aliyun-oss", "tencent-cos", "aws-s3", "s3"]
Text = Annotated[str, Field(max_length=1024)]
Secret = Annotated[SecretStr, Field(max_length=8192)]
# A signed 64-bit number, as the database keeps it.
Bytes = Annotated[int, Field(ge=0, le=2**62)]


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


CheckRegion = Annotated[
    SoughtName | None,
    Field(description="Region whose nodes run the connection check, for an endpoint that only it reaches; the control plane by default."),
]


class NewKeys(Keys):
    """Credentials that take the place of others."""

    check_region: CheckRegion = None


class CheckRequest(BaseModel):
    """How to check."""

    model_config = ConfigDict(extra="forbid")

    check_region: CheckRegion = None


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
    check_region: CheckRegion = None

    def described(self) -> service.Described:
        return service.Described(**self.model_dump(exclude={"credentials", "check_region"}))


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
    check_region: CheckRegion = None


CheckedFrom = Annotated[str, Field(description="`control plane`, or the node, as `REGION/NODE`.")]


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
    checked_from: CheckedFrom
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
    checked_from: CheckedFrom
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
