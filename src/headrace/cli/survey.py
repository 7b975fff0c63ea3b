"""What `headrace status` finds: the nodes of this user, and mounts that no node of theirs serves."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any

from headrace import settings as configuration
from headrace.cli.reach import dead, others
from headrace.errors import HeadraceError
from headrace.node import mountinfo
from headrace.node.client import connect
from headrace.settings import Settings


def everything() -> dict[str, Any]:
    """The answer of the node of these settings, or of the first that runs, with those of the `others`.

    `dead` mounts have lost their node; `elsewhere` are mounts of this user's of whose node nothing is known here; `silent` are nodes that
    gave no answer, each with the reason.
    """
    settings = configuration.load()
    answers, silent = [], {}
    if (own := _ask(settings)) is not None:
        answers.append(own)
    for other in others(settings):
        try:
            answer = _ask(other)
        except HeadraceError as error:
            silent[other.socket] = error.message
            continue
        if answer is not None:
            answers.append(answer)
    first, *rest = answers or [{"node": None, "mounts": []}]
    lost = dead(settings)
    known = {mount["directory"] for answer in answers for mount in answer["mounts"]}.union(lost)
    elsewhere = sorted(mounted.directory for mounted in mountinfo.mounted() if _is_ours(mounted) and mounted.directory not in known)
    return {**first, "others": rest, "dead": lost, "elsewhere": elsewhere, "silent": silent}


def _ask(settings: Settings) -> dict[str, Any] | None:
    client = connect(settings)
    if client is None:
        return None
    with closing(client):
        return dict(client.call("status", directory=None))


def _is_ours(mounted: mountinfo.Mounted) -> bool:
    return mounted.fstype == mountinfo.FSTYPE and mounted.user == os.geteuid()
