"""An edit says which revision it edits, so that nobody overwrites what somebody else just changed (RFC 9110, If-Match)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from headrace.control.problems import refused

IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=64, description="The ETag of what is edited.")]


def etag(revision: int) -> str:
    return f'"{revision}"'


def must_match(if_match: str | None, revision: int) -> None:
    """Raises the problem `precondition-required` or `revision-changed`."""
    if if_match is None:
        raise refused("precondition-required")
    if if_match.strip() != etag(revision):
        raise refused("revision-changed")
