"""What commands can ask the node for."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace._engine import Engine, EngineError, __version__
from headrace.errors import BusyFailure, MountFailure, NotFound, UsageError, from_code
from headrace.node import resolver, slots
from headrace.node.agent.methods import CONTROL_METHODS
from headrace.node.engines import add_origin
from headrace.node.finding import find_mount, inside
from headrace.node.listing import publish_listing
from headrace.node.metrics import text as prometheus
from headrace.node.order_methods import ORDER_METHODS
from headrace.node.space import check_room
from headrace.node.volume_methods import VOLUME_METHODS
from headrace.node.volumes import CHANGING, VolumeStore, parse_uri
from headrace.node.warming import pull

if TYPE_CHECKING:
    from headrace.node.service import Node, Progress

Params = dict[str, Any]
_SHOWN = 20
_KEYS = ("access_key", "secret_key", "session_token", "expires")


@contextlib.contextmanager
def _looking_for(mount: dict[str, Any], snapshot: str, within: list[str]) -> Iterator[None]:
    """Where a path was looked for in vain. The engine knows a snapshot only as a file, and looking beforehand would read all of it for each path."""
    try:
        yield
    except EngineError as error:
        gone = [path for path in within if error.code == "unknown" and Engine.snapshot_stat(snapshot, path) is None]
        if not gone:
            raise
        raise NotFound(
            "unknown",
            f"path: there is no {gone[0]!r} in {mount['directory']} (snapshot {mount['snapshot']}); "
            f"check the spelling, or list the bucket again: `headrace refresh {mount['directory']}`",
        ) from error


def _store(node: Node, mount: dict[str, Any]) -> VolumeStore:
    return VolumeStore(node.settings.snapshots, mount["origin"]["endpoint"], mount["bucket"], mount["prefix"])


def mount(node: Node, params: Params, progress: Progress) -> dict[str, Any]:
    """Lists, publishes, mounts; leaves nothing behind when it fails.

    `source`, `directory` (absolute), `environment` (the variables that reach the origin), `origin` (endpoint, region, addressing,
    anonymous), `look` (uid, gid, file_mode, dir_mode, allow_other, passthrough), `pin`, `snapshot` (a version held, or `current`: then
    nothing is listed). Progress: files and bytes listed so far. Answers the snapshot, what changed, and how much it holds.
    """
    bucket, prefix = parse_uri(params["source"])
    directory = str(params["directory"])
    with _place(node, directory):
        check_room(node.engine.cache_usage(), node.settings.cache_reserve)
        options = dict(params.get("origin") or {})
        environment = dict(params["environment"])
        origin = resolver.resolve(environment, options)
        mount_id = secrets.token_hex(6)
        entry: dict[str, Any] = {
            "directory": directory, "bucket": bucket, "prefix": prefix, "origin": origin, "environment": environment,
            "options": options, "look": params["look"], "pin": bool(params.get("pin")), "since": time.time(),
        }  # fmt: skip
        node.add_origin(node.engine, mount_id, entry)
        try:
            result = _mount_listed(node, mount_id, entry, params.get("snapshot"), progress)
        except BaseException:
            node.remove_origin(mount_id)
            raise
        progress.if_untold(partial(_take_back, node, mount_id))
        return result


def _take_back(node: Node, mount_id: str) -> None:
    """Ends a mount whose command went away before it was told: nobody knows of it, so nobody would unmount it."""
    with node.commands:
        if mount_id not in node.kept.mounts:
            return
        with contextlib.suppress(EngineError):  # it is gone already
            node.engine.unmount(mount_id, True)
        node.forget_mount(mount_id)
        node.volumes.retire(mount_id)


@contextlib.contextmanager
def _place(node: Node, directory: str) -> Iterator[None]:
    """A directory for one mount at a time; others go on while this one lists its bucket."""
    node.drop_dead_mounts()
    with node.commands:
        taken = directory in node.mounting or any(m["directory"] == directory for m in list(node.kept.mounts.values()))
        if taken:
            raise MountFailure(
                "mount-failed",
                f"directory: {directory} is already mounted; unmount it first (`headrace umount {directory}`)",
            )
        node.mounting.add(directory)
    try:
        yield
    finally:
        node.mounting.discard(directory)


def _mount_listed(node: Node, mount_id: str, entry: dict[str, Any], wanted: str | None, progress: Progress) -> dict[str, Any]:
    store = _store(node, entry)
    change: dict[str, Any] = {}
    if wanted is None:
        try:
            version, change = publish_listing(node.engine, mount_id, store, progress)
        except EngineError as error:
            if error.code in ("unreachable", "deadline") and store.current():
                hint = f"{error.message}. What is cached can be used meanwhile: add --snapshot current"
                raise from_code(error.code, hint) from error
            raise
    else:
        version = store.find(wanted)
    path = str(store.path(version))
    with node.commands, CHANGING:
        found = slots.identity(path)
        node.engine.mount(mount_id, mount_id, path, directory=entry["directory"], **entry["look"])
        entry.update(slots.first(node, mount_id, version, found))
        node.keep_mount(mount_id, entry)
    return {
        "directory": entry["directory"],
        "snapshot": version,
        "change": change,
        **Engine.snapshot_info(path),
    }


def umount(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """Unmounts the mount at `directory`; with `lazy`, detaches it and ends it when its last user is gone."""
    with node.commands:
        mount_id, entry = find_mount(node, params["directory"])
        if entry["directory"] != os.path.abspath(params["directory"]):
            raise NotFound(
                "not-mounted",
                f"directory: {params['directory']} lies inside the mount {entry['directory']}; unmount that",
            )
        try:
            node.engine.unmount(mount_id, bool(params.get("lazy")))
        except EngineError as error:
            if error.code == "busy":
                who = ", ".join(holders(entry["directory"])) or "a process of another user or mount namespace"
                raise BusyFailure("busy", f"{entry['directory']} is busy, held by: {who}; end these, or use --lazy") from error
            raise
        node.forget_mount(mount_id)
        node.volumes.retire(mount_id)
        return {"directory": entry["directory"]}


def holders(directory: str) -> list[str]:
    """Processes with files, mappings or working directories below a directory: `name (pid)`."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
            targets = []
            for link in links:
                with contextlib.suppress(OSError):
                    targets.append(os.readlink(link))
            targets += [line.split(maxsplit=5)[5].strip() for line in (process / "maps").read_text().splitlines() if "/" in line]
            if any(t == directory or t.startswith(directory + "/") for t in targets):
                found.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
    return found


def stop_mounts(node: Node) -> None:
    """An orderly end: what is not busy is unmounted, the rest is detached."""
    for mount_id in list(node.kept.mounts):
        with contextlib.suppress(EngineError):
            node.engine.unmount(mount_id, True)
        node.forget_mount(mount_id)


def status(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """Node, control plane, cache, counters, events and all mounts, or the one that holds `directory`."""
    directory = params.get("directory")
    mounts = [_mount_status(node, *find_mount(node, directory))] if directory else _of_all_mounts(node)
    counters = node.engine.counters()
    return {
        "version": __version__,
        "node": {
            "pid": os.getpid(),
            "keeper_pid": node.keeper,
            "socket": node.settings.socket,
            "since": node.began,
            "rss_bytes": _rss(),
        },
        "control": node.membership.status(),
        "speed": node.speed.now(),
        "cache": _cache(node),
        "counters": counters,
        "hit_ratio": _ratio(counters["cache_hit_bytes_total"], counters["cache_miss_bytes_total"]),
        "mounts": mounts,
        "volumes": node.volumes.describe(),
        "events": node.troubles.events() + node.membership.events() + node.engine.events(10),
    }


def _cache(node: Node) -> dict[str, Any]:
    """What the cache occupies; where a stand-in serves, what it stands in for too."""
    usage: dict[str, Any] = node.engine.cache_usage()
    if node.cacheless:
        lost = [
            {"path": path, "limit_bytes": size, "allocated_bytes": 0, "failed": node.cacheless, "lacks": None}
            for path, size in node.settings.cache_directories
        ]
        usage["directories"] = lost + usage["directories"]
    return usage


def _listed(node: Node, origin_id: str, path: str) -> dict[str, Any]:
    """What a mount's snapshot holds, and how much of it is cached. The mount itself has it in memory: a file that is gone is no end of it."""
    try:
        info = Engine.snapshot_info(path)
        coverage = node.engine.coverage(origin_id, path, [])
        skipped = Engine.snapshot_skipped(path, _SHOWN)
    except EngineError as error:
        names = ("files", "bytes", "skipped", "bytes_present", "files_complete", "files_durable")
        return {**dict.fromkeys(names, 0), "skipped_keys": [], "warning": error.message}
    held = {name: coverage[name] for name in ("bytes_present", "files_complete", "files_durable")}
    return {"files": info["files"], "bytes": info["bytes"], "skipped": info["skipped"], "skipped_keys": skipped, **held}


def _of_all_mounts(node: Node) -> list[dict[str, Any]]:
    """Others are made, and end, while this goes through them: of one that the engine knows no more there is nothing to tell."""
    found = []
    for mount_id, entry in list(node.kept.mounts.items()):
        with contextlib.suppress(EngineError):
            found.append(_mount_status(node, mount_id, entry))
    return found


def _mount_status(node: Node, mount_id: str, entry: dict[str, Any]) -> dict[str, Any]:
    slot = node.engine.mount_current_slot(mount_id)  # before the slots: what the engine shows is among them already
    path = entry["slots"][str(slot)]
    expires = entry["origin"].get("expires")
    left = expires - time.time() if expires else None
    warning, task = None, _task_status(entry)
    if left is not None and left < 86400:
        warning = "credentials expire within the hour" if left < 3600 else "credentials expire within a day"
    return {
        "directory": task["path"] if task else entry["directory"], "task": task, "source": f"s3://{entry['bucket']}/{entry['prefix']}".rstrip("/"),
        "endpoint": entry["origin"]["endpoint"], "snapshot": entry["snapshot"], "pinned": entry["pin"],
        "credentials_expire": expires, "warning": warning, **_listed(node, entry.get("origin_id", mount_id), path),
        **node.engine.mount_status(mount_id),
    }  # fmt: skip


def _task_status(entry: dict[str, Any]) -> dict[str, Any] | None:
    """Of a task's mount: whose it is, and what it shows. Only the task's processes see it at its directory."""
    task = entry.get("task")
    return None if task is None else {name: task[name] for name in ("id", "volume", "version", "follow", "path", "user")}


def _ratio(hits: float, misses: float) -> float | None:
    return hits / (hits + misses) if hits + misses else None


def _rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def refresh(node: Node, params: Params, progress: Progress) -> dict[str, Any]:
    """Lists again and, because a person asked, switches the mount that holds `directory`, unless it is pinned.

    Progress: files and bytes listed so far. Answers what is new, changed and gone: how many, and the first paths of each.
    """
    mount_id, entry = find_mount(node, params["directory"])
    version, change = publish_listing(node.engine, mount_id, _store(node, entry), progress)
    with node.commands:
        # It may have been unmounted, rolled back or refreshed meanwhile.
        mount_id, entry = find_mount(node, params["directory"])
        switched = not entry["pin"] and version != entry["snapshot"]
        if switched:
            _switch(node, mount_id, entry, version)
    return {**change, "snapshot": version, "switched": switched, "pinned": entry["pin"]}


def _switch(node: Node, mount_id: str, entry: dict[str, Any], version: str) -> None:
    slots.switch(node, mount_id, entry, version, str(_store(node, entry).path(version)))


def snapshots(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """The versions held of the prefix mounted at `directory`, and how much of each can still be read."""
    mount_id, entry = find_mount(node, params["directory"])
    store = _store(node, entry)
    versions = []
    for version in store.versions():
        path = str(store.path(str(version["id"])))
        coverage = node.engine.coverage(mount_id, path, [])
        versions.append(
            {
                **version,
                **coverage,
                "mounted": version["id"] == entry["snapshot"],
                "readable": _readable(store, version, coverage),
            }
        )
    return {"current": store.current(), "versions": versions}


def _readable(store: VolumeStore, version: dict[str, Any], coverage: dict[str, Any]) -> str:
    """How much can still be read: files unchanged in the newest listing come from the bucket, others from the cache only."""
    current = store.current()
    if version["versioned"] or version["id"] == current or current is None or coverage["files_complete"] == coverage["files"]:
        return "all"
    change = Engine.diff(str(store.path(str(version["id"]))), str(store.path(current)), 0)
    lost = change["changed"] + change["gone"]
    return "all" if lost == 0 else f"all but what is not cached of {lost} files overwritten or deleted since"


def rollback(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """Switches the mount that holds `directory` to `snapshot`, a version held."""
    with node.commands:
        mount_id, entry = find_mount(node, params["directory"])
        store = _store(node, entry)
        version = store.find(params["snapshot"])
        if entry["pin"]:
            raise MountFailure(
                "pinned",
                f"{entry['directory']} is mounted with --pin and never switches; mount it again with --snapshot {version}",
            )
        if version != entry["snapshot"]:
            _switch(node, mount_id, entry, version)
        return {"directory": entry["directory"], "snapshot": version}


def warm(node: Node, params: Params, progress: Progress) -> dict[str, Any]:
    """Pulls `paths` (absolute, all in one mount) into the cache, or what the patterns `include` and `exclude` choose of them.

    Progress: files and bytes held. Refuses beforehand what cannot fit.
    """
    mount_id, entry = find_mount(node, params["paths"][0])
    path = entry["slots"][str(node.engine.mount_current_slot(mount_id))]
    within = inside(entry, params["paths"])
    with _looking_for(entry, path, within):
        return pull(
            node.engine, mount_id, path, within, progress, reserve_bytes=node.settings.cache_reserve,
            include=list(params.get("include") or ()), exclude=list(params.get("exclude") or ()),
        )  # fmt: skip


def cache_list(node: Node, params: Params, _: Progress) -> list[dict[str, Any]]:
    """What is cached, at most `limit` files."""
    return node.engine.cache_entries(int(params.get("limit") or 1000))


def cache_evict(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """Drops `paths` from the cache, or with `all` everything that is not pinned; answers the bytes freed."""
    if params.get("all"):
        return {"bytes": node.engine.cache_evict(None)}
    if not params.get("paths"):
        raise UsageError("bad-request", "paths: there are none; name what to drop, or drop everything with `all`")
    mount_id, entry = find_mount(node, params["paths"][0])
    path = entry["slots"][str(node.engine.mount_current_slot(mount_id))]
    within = inside(entry, params["paths"])
    with _looking_for(entry, path, within):
        ids = node.engine.cache_ids(mount_id, path, within)
    return {"bytes": node.engine.cache_evict(ids)}


def cache_pin(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """Pins `paths`, or unpins them with `pinned` false; answers how many files."""
    mount_id, entry = find_mount(node, params["paths"][0])
    path = entry["slots"][str(node.engine.mount_current_slot(mount_id))]
    within = inside(entry, params["paths"])
    with _looking_for(entry, path, within):
        return {"files": node.engine.cache_pin(mount_id, path, within, bool(params["pinned"]))}


def cache_verify(node: Node, _: Params, progress: Progress) -> dict[str, Any]:
    """Compares every cached block with its digest and drops what does not match. Progress: files and bytes done.

    `failed`: the directories that are out of use, of which no more is checked, with the reason.
    """
    report = node.engine.cache_verify(lambda files, size: progress({"files": files, "bytes": size}))
    failed = {directory["path"]: directory["failed"] for directory in node.engine.cache_usage()["directories"] if directory["failed"]}
    return {**report, "failed": failed}


def renew(node: Node, mount_id: str, environment: dict[str, str] | None) -> dict[str, Any]:
    """Asks for credentials again, or takes those of another `environment`, once the origin has accepted them."""
    entry = node.kept.mounts.get(mount_id)
    if entry is None:
        raise NotFound("not-mounted", "directory: it has been unmounted meanwhile; see `headrace status`")
    given, environment = environment, environment or entry["environment"]
    origin = resolver.resolve(environment, entry["options"])
    if given:
        _try_out(node, entry, origin)
    if origin["access_key"]:
        node.engine.set_credentials(mount_id, origin["access_key"], origin["secret_key"], origin["session_token"])
    kept = {name: origin[name] for name in _KEYS}
    node.update_mount(mount_id, {"origin": {**entry["origin"], **kept}, "environment": environment})
    return {"expires": origin["expires"]}


def _try_out(node: Node, entry: dict[str, Any], origin: dict[str, Any]) -> None:
    """Begins a listing of the mount's prefix with other credentials. Raises EngineError as the origin refuses them."""
    trial, candidate = secrets.token_hex(6), _store(node, entry).candidate()
    # The engine's alone: nothing is learned from it.
    add_origin(node.engine, node.settings, trial, entry["bucket"], {**entry["origin"], **{name: origin[name] for name in _KEYS}})
    try:
        node.engine.list(trial, entry["prefix"], str(candidate), 1, lambda _files, _bytes: False)
    except EngineError as error:
        if error.code != "cancelled":  # by us, after its first page
            raise
    finally:
        candidate.unlink(missing_ok=True)
        node.engine.remove_origin(trial)


def credentials(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """Gives the mount that holds `directory` the credentials of `environment`, unless the origin refuses them.

    Answers when they expire (Unix time, or null).
    """
    mount_id, _entry = find_mount(node, params["directory"])
    return renew(node, mount_id, dict(params["environment"]))


def metrics(node: Node, _: Params, __: Progress) -> str:
    """Every figure of the node as Prometheus text."""
    usage = node.engine.cache_usage()
    cache = {"cache_allocated_bytes": usage["allocated_bytes"], "cache_limit_bytes": usage["limit_bytes"]}
    return prometheus(node.engine.counters() | cache)


def ping(node: Node, _: Params, __: Progress) -> dict[str, Any]:
    """Who answers, what is mounted, and the settings in force of which there is one for all mounts; costs nothing."""
    mounts = [{"directory": m["directory"], "snapshot": m["snapshot"]} for m in list(node.kept.mounts.values()) if "task" not in m]
    names = ("cache_directories", "cache_reserve", "memory")
    return {"pid": os.getpid(), "mounts": mounts, "settings": {name: getattr(node.settings, name) for name in names}}


def stop(node: Node, _: Params, __: Progress) -> dict[str, Any]:
    """Unmounts everything and ends node and keeper, a moment after this answer."""
    node.stopping.set()
    return {}


METHODS: dict[str, Callable[[Node, Params, Progress], Any]] = {
    "mount": mount, "umount": umount, "status": status, "refresh": refresh, "snapshots": snapshots, "rollback": rollback,
    "warm": warm, "cache.list": cache_list, "cache.evict": cache_evict, "cache.pin": cache_pin,
    "cache.verify": cache_verify, "credentials": credentials, "metrics": metrics, "ping": ping,
    "stop": stop, **ORDER_METHODS, **VOLUME_METHODS, **CONTROL_METHODS,
}  # fmt: skip
