"""Listing an origin into a snapshot, and publishing it when it differs from the current one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace._engine import Engine, EngineError
from headrace.errors import HeadraceError, from_code
from headrace.node.volumes import CHANGING, VolumeStore

_LIST_WORKERS = 8
_SHOWN = 20


def publish_listing(engine: Engine, origin_id: str, store: VolumeStore, progress: Callable[[dict[str, Any]], bool]) -> tuple[str, dict[str, Any]]:
    """Lists the origin; gives the current version's id and what changed. Publishes only what differs.

    `progress` gets files and bytes listed so far, and cancels by answering False. Raises EngineError as the origin
    failed, HeadraceError `empty-prefix` when there is nothing.
    """
    candidate = store.candidate()
    try:
        report = engine.list(
            origin_id, store.about["prefix"], str(candidate), _LIST_WORKERS,
            lambda files, size: progress({"phase": "list", "files": files, "bytes": size}),
        )  # fmt: skip
        if report["files"] == 0:
            raise nothing_under(engine, origin_id, store.about)
        with CHANGING:  # listings run side by side; comparing with the current version and taking its place is for one at a time
            return _publish(store, candidate, report)
    except EngineError as error:
        raise spoken(error, store.about["endpoint"]) from error
    finally:
        candidate.unlink(missing_ok=True)


def _publish(store: VolumeStore, candidate: Path, report: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    current = store.current()
    change = {"new": report["files"], "changed": 0, "gone": 0, "new_paths": [], "changed_paths": [], "gone_paths": []}
    if current is not None:
        try:
            change = Engine.diff(str(store.path(current)), str(candidate), _SHOWN)
        except EngineError:
            # The current list is gone or damaged: this one takes its place, if it is not the one that can't be read.
            Engine.snapshot_info(str(candidate))
        else:
            if not (change["new"] or change["changed"] or change["gone"]):
                return current, {**report, **change, "published": False}
    return store.publish(candidate, report), {**report, **change, "published": True}


def spoken(error: EngineError, endpoint: str) -> Exception:
    """The error of a listing. A server that answers pages instead of S3's XML is not the one that was meant: then it is named."""
    _, unread, cause = error.message.partition("the XML can't be read: ")
    if error.code not in ("protocol", "listing-broken") or not unread:
        return error
    detail = cause.partition(";")[0]
    return from_code(
        "protocol", f"endpoint: what answers at {endpoint} does not speak S3: {unread}{detail}; check AWS_ENDPOINT_URL, --endpoint and any proxy"
    )


def nothing_under(engine: Engine, origin_id: str, about: dict[str, str]) -> HeadraceError:
    """The error of a listing that found nothing; `about` names bucket and prefix. Says so when the prefix is an object."""
    source = f"s3://{about['bucket']}/{about['prefix']}"
    key = about["prefix"].rstrip("/")
    with contextlib.suppress(EngineError):
        if key and engine.head(origin_id, key):
            parent = source.rstrip("/").rpartition("/")[0]
            return from_code(
                "empty-prefix",
                f"prefix: {source.rstrip('/')} is an object, not a directory; mount the directory it is in: {parent}",
            )
    return from_code("empty-prefix", f"prefix: there is nothing under {source}; check the bucket and the spelling")
