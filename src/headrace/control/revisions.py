"""An edit says which revision it edits, so that nobody overwrites what somebody else just changed (RFC 9110, If-Match).

A tag holds the id too: what is deleted and made again under the same name is another thing, although its revisions begin at 1 again.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header

from headrace.control.problems import refused

IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=1024, description="The ETag of what is changed; several, or `*` for any.")]
# Compared strongly, so one that is weak (`W/"…"`) matches nothing.
_TAGS = re.compile(r'\s*(W/)?"([\x21\x23-\x7e]*)"\s*(?:,|$)')


def etag(identifier: str, revision: int) -> str:
    return f'"{identifier}-{revision}"'


def must_match(if_match: str | None, identifier: str, revision: int) -> None:
    """Raises the problem `precondition-required` or `revision-changed`."""
    if if_match is None:
        raise refused("precondition-required")
    must_not_differ(if_match, identifier, revision)


def must_not_differ(if_match: str | None, identifier: str, revision: int) -> None:
    """As `must_match`, where nothing needs to be said."""
    if if_match is None or if_match.strip() == "*":
        return
    if f"{identifier}-{revision}" not in [tag for weak, tag in _TAGS.findall(if_match) if not weak]:
        raise refused("revision-changed")
