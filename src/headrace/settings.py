"""Every setting, declared once: name, environment variable, type, unit, default and meaning.

Precedence: command-line option, environment (`HEADRACE_*`), TOML file, default. The reference page
(`docs/reference/settings.md`) is generated from here.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.amounts import is_size, is_utf8, parse_bytes, parse_seconds, whole_number
from headrace.errors import UsageError

ROOT_TASK_SOCKET = "/run/headrace-task.sock"
_WINDOW_BYTES = 16 * 2**20
# Between the values of a list.
_SEPARATORS = {"paths": ":", "names": ","}
_SWITCHED = {"1": True, "true": True, "on": True, "yes": True, "0": False, "false": False, "off": False, "no": False}


@dataclass(frozen=True)
class Setting:
    """One setting; its environment variable is HEADRACE_ and the name in capitals."""

    name: str
    kind: str  # "path", "paths", "text", "bytes", "seconds", "integer", "names", "switch"
    default: str
    meaning: str

    @property
    def variable(self) -> str:
        return f"HEADRACE_{self.name.upper()}"


SETTINGS = (
    Setting("cache_dir", "paths", "", "Cache directories, separated by colons, each a path or path=SIZE. "
            "Default: /var/cache/headrace for root, ~/.cache/headrace otherwise."),
    Setting("cache_size", "bytes", "", "Size of a cache directory without a size of its own. "
            "Default: 80 % of the file system's size."),
    Setting("cache_reserve", "bytes", "1Gi", "Free space to leave on each cache file system."),
    Setting("cache_max_age", "seconds", "0", "Evict files unused for this long; 0 never does."),
    Setting("scrub_interval", "seconds", "7d", "Compare everything cached with its digests this often, when the node runs that long; 0 never does."),
    Setting("scrub_rate", "bytes", "32Mi", "Most bytes a second that this reads from the cache disks."),
    Setting("verify_reads", "switch", "0", "1 compares each block with its digest whenever the node reads it back. "
            "Blocks that the kernel reads itself (passthrough) are not compared: mask `passthrough` where they must be."),
    Setting("memory", "bytes", "", "Budget for buffers. Default: an eighth of the memory (of the control group's "
            "limit where there is one), between 64 MiB and 512 MiB."),
    Setting("page_cache", "bytes", "", "Largest file that is read back into memory after it came too fast for the page "
            "cache. Default: half of the memory (as above)."),
    Setting("node", "path", "", "Socket of the node. Default: in the runtime directory, one for a cache directory."),
    Setting("task_socket", "path", "", "Socket at which the node prepares mounts of tasks. Default: /run/headrace-task.sock for root's node, "
            "open to every user; otherwise, and where `node` is set, beside the node's socket."),
    Setting("task_paths", "names", "/mnt,/models,/data", "Directories, separated by commas, in which tasks may mount; the user's home besides. "
            "Both the command's and the node's must allow a path."),
    Setting("task_mounts", "integer", "256", "Most mounts of tasks that a node has at a time; each takes about a dozen threads."),
    Setting("deadline", "seconds", "300", "A read that gets no bytes for this long fails with EIO."),
    Setting("connections", "integer", "32", "Most connections to one origin."),
    Setting("kernel_mask", "names", "", "Features of the kernel to do without, separated by commas: passthrough, resend, "
            "direct-mmap, large-reads, epoch."),
    Setting("interfaces", "names", "", "Source addresses, separated by commas: connections are spread over them, to use several network interfaces. "
            "Default: as the system routes."),
    Setting("origin_bandwidth", "bytes", "0", "Most bytes a second from one origin; 0 is no ceiling."),
    Setting("origin_requests", "integer", "0", "Most requests a second to one origin; 0 is no ceiling."),
    Setting("learn_order", "switch", "1", "Learn the order in which files are loaded, and fetch in it the next time. 0 records "
            "nothing and recalls nothing; an order that is imported (`headrace order import`) is gone by all the same, until the unmount."),
    Setting("keep_snapshots", "integer", "10", "Versions of a volume to keep; the current one, the one before it and those "
            "mounted always stay."),
    Setting("log_size", "bytes", "16Mi", "The node's log is set aside, as one older file, when it is larger."),
    Setting("idle", "seconds", "60", "A node without mounts and commands ends after this long."),
)  # fmt: skip

# Tables of the configuration file; what else is in it are settings.
_TABLES = frozenset({"control", "mounts"})


@dataclass(frozen=True)
class Settings:
    """Settings in force."""

    cache_directories: tuple[tuple[str, int], ...]
    cache_reserve: int
    cache_max_age: float | None
    memory: int
    page_cache: int
    socket: str
    deadline: float
    connections: int
    idle: float
    origin_bandwidth: int
    origin_requests: int
    keep_snapshots: int
    log_size: int
    kernel_mask: tuple[str, ...] = ()
    scrub_interval: float = 0.0
    scrub_rate: int = 0
    verify_reads: bool = False
    interfaces: tuple[str, ...] = ()
    learn_order: bool = True
    task_socket: str = ""
    task_socket_named: bool = False  # so no other is looked at
    task_paths: tuple[str, ...] = ()
    task_mounts: int = 256

    @property
    def runtime(self) -> Path:
        """Directory of sockets and logs; 0700."""
        return Path(self.socket).parent

    @property
    def handout_socket(self) -> str:
        return self.socket.removesuffix(".sock") + ".data.sock"

    @property
    def log_file(self) -> str:
        return self.socket.removesuffix(".sock") + ".log"

    @property
    def snapshots(self) -> Path:
        return Path(self.cache_directories[0][0]) / "snapshots"


def load(options: Mapping[str, str | None] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in force. Raises UsageError naming the field, the cause and the remedy."""
    env = os.environ if environ is None else environ
    values = _raw(options or {}, env)
    reserve = parse_bytes("cache reserve", values["cache_reserve"])
    directories = _directories(values, env)
    age = parse_seconds("cache max age", values["cache_max_age"])
    memory = parse_bytes("memory", values["memory"]) if values["memory"] else default_memory()
    if memory < _WINDOW_BYTES:
        raise UsageError("bad-setting", f"memory: {memory} bytes is less than one window; give at least 16Mi")
    socket = values["node"] or _default_socket(directories[0][0], env)
    return Settings(
        cache_directories=directories,
        cache_reserve=reserve,
        cache_max_age=age or None,
        memory=memory,
        page_cache=parse_bytes("page cache", values["page_cache"]) if values["page_cache"] else usable_memory() // 2,
        socket=socket,
        deadline=parse_seconds("deadline", values["deadline"]),
        connections=_integer("connections", values["connections"], 1, 1024),
        idle=parse_seconds("idle", values["idle"]),
        origin_bandwidth=parse_bytes("origin bandwidth", values["origin_bandwidth"]),
        origin_requests=_integer("origin requests", values["origin_requests"], 0, 1_000_000),
        keep_snapshots=_integer("keep snapshots", values["keep_snapshots"], 2, 1_000_000),
        log_size=parse_bytes("log size", values["log_size"]),
        kernel_mask=names(values["kernel_mask"]),
        scrub_interval=parse_seconds("scrub interval", values["scrub_interval"]),
        scrub_rate=_rate("scrub rate", values["scrub_rate"]),
        verify_reads=_switch("verify reads", values["verify_reads"]),
        interfaces=_addresses("interfaces", values["interfaces"]),
        learn_order=_switch("learn order", values["learn_order"]),
        task_socket_named=bool(values["task_socket"] or values["node"]),
        task_socket=values["task_socket"] or _task_socket(values["node"], socket),
        task_paths=_task_paths(names(values["task_paths"])),
        task_mounts=_integer("task mounts", values["task_mounts"], 1, 10_000),
    )


def names(text: str) -> tuple[str, ...]:
    """The values of a list with commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _task_socket(named: str, socket: str) -> str:
    """Other users find root's node at a place that everybody may look into; any other node serves its own user."""
    if os.geteuid() == 0 and not named:
        return ROOT_TASK_SOCKET
    return socket.removesuffix(".sock") + ".task.sock"


def _task_paths(paths: tuple[str, ...]) -> tuple[str, ...]:
    for path in paths:
        if not path.startswith("/") or ".." in path.split("/"):
            raise UsageError("bad-setting", f"task paths: {path!r} is not an absolute path without `..`; write directories like /mnt,/models")
    return tuple(os.path.normpath(path) for path in paths)


def _addresses(field: str, text: str) -> tuple[str, ...]:
    addresses = names(text)
    for name in addresses:
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise UsageError("bad-setting", f"{field}: {name!r} is not an IP address; give addresses of this machine, separated by commas") from None
    return addresses


def _integer(field: str, text: str, low: int, high: int) -> int:
    number = whole_number(text)
    if number is None or not low <= number <= high:
        raise UsageError("bad-setting", f"{field}: {text!r} is not a number from {low} to {high}; give one, in digits")
    return number


def _rate(field: str, text: str) -> int:
    rate = parse_bytes(field, text)
    if rate < 2**20:
        raise UsageError("bad-setting", f"{field}: {text!r} is less than a block a second; give at least 1Mi")
    return rate


def _switch(field: str, text: str) -> bool:
    if text.lower() not in _SWITCHED:
        raise UsageError("bad-setting", f"{field}: {text!r} is neither on nor off; write 1 or 0")
    return _SWITCHED[text.lower()]


def config_file(env: Mapping[str, str]) -> Path:
    if env.get("HEADRACE_CONFIG"):
        return Path(env["HEADRACE_CONFIG"])
    if os.geteuid() == 0:
        return Path("/etc/headrace/config.toml")
    return Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME", "/")) / ".config") / "headrace/config.toml"


def read_config(env: Mapping[str, str]) -> dict[str, Any]:
    path = config_file(env)
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        if env.get("HEADRACE_CONFIG"):
            raise UsageError("bad-setting", f"HEADRACE_CONFIG: {path} does not exist; create it or unset it") from None
        return {}
    except (OSError, ValueError) as error:
        raise UsageError("bad-setting", f"{path}: {error}; correct the file") from error


def _raw(options: Mapping[str, str | None], env: Mapping[str, str]) -> dict[str, str]:
    table = {name: value for name, value in read_config(env).items() if name not in _TABLES}
    return values_of(SETTINGS, table, options, env)


def values_of(declared: Iterable[Setting], table: Mapping[str, Any], options: Mapping[str, str | None], env: Mapping[str, str]) -> dict[str, str]:
    """Each setting as text, by precedence. Raises UsageError for what the file says and nobody declared."""
    known = {setting.name: setting for setting in declared}
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise UsageError("bad-setting", f"{config_file(env)}: no setting named {unknown[0]!r}; see the settings reference")
    values = {}
    for setting in known.values():
        chosen = options.get(setting.name)
        if chosen is None:
            chosen = env.get(setting.variable) or None
        if chosen is None and setting.name in table:
            chosen = _from_toml(setting, table[setting.name])
        if chosen is not None and not is_utf8(chosen):
            raise UsageError("bad-setting", f"{setting.name}: {chosen!r} is not UTF-8; give another")
        values[setting.name] = setting.default if chosen is None else chosen
    return values


def _from_toml(setting: Setting, given: object) -> str:
    """What a value of the file would be in the environment."""
    if not isinstance(given, list):
        return str(given)
    if setting.kind not in _SEPARATORS:
        raise UsageError("bad-setting", f"{setting.name}: {given!r} is a list in the configuration file; give one value")
    return _SEPARATORS[setting.kind].join(map(str, given))


def _directories(values: Mapping[str, str], env: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    home = Path(env.get("XDG_CACHE_HOME") or Path(env.get("HOME", "/")) / ".cache")
    text = values["cache_dir"] or ("/var/cache/headrace" if os.geteuid() == 0 else str(home / "headrace"))
    shared = parse_bytes("cache size", values["cache_size"]) if values["cache_size"] else None
    return tuple(_directory(part, shared) for part in text.split(":"))


def _directory(part: str, shared: int | None) -> tuple[str, int]:
    """A cache directory and its limit, from `PATH` or `PATH=SIZE`. A `=` with no size after it belongs to the path."""
    path, equals, size = part.rpartition("=")
    sized = bool(equals) and is_size(size)
    if not sized:
        path = part
    if not path or part.endswith("="):
        cause = f"{part!r} ends where a size should be" if path else "a path is empty"
        raise UsageError("bad-setting", f"cache dir: {cause}; write PATH or PATH=SIZE, with a colon between two and none at the ends")
    directory = os.path.abspath(path)
    given = parse_bytes("cache dir", size) if sized else shared
    limit = _most_of(directory) if given is None else given
    if limit < _WINDOW_BYTES:
        raise UsageError("bad-setting", f"cache size: {limit} bytes is smaller than one window; give at least 16Mi")
    return directory, limit


def _most_of(directory: str) -> int:
    path = Path(directory)
    try:
        while not path.exists():
            path = path.parent
        stat = os.statvfs(path)
    except OSError as error:
        raise UsageError("bad-setting", f"cache dir: {directory}: {error.strerror}; choose another directory (HEADRACE_CACHE_DIR)") from None
    return max(stat.f_blocks * stat.f_frsize * 8 // 10, _WINDOW_BYTES)


def default_memory() -> int:
    """An eighth of what this process may use, between 64 MiB and 512 MiB."""
    return min(max(usable_memory() // 8, 64 * 2**20), 512 * 2**20)


def usable_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or less where a control group says so."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, *_group_limits(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")), machine)


def _group_limits(root: Path, own: Path) -> list[int]:
    """Memory limits of this process's control group and of those above it, version 1 or 2.

    In a container the group is the root of what is seen; under a service manager it lies below.
    """
    found = []
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        group = top / path.lstrip("/")
        for place in (group, *group.parents):
            if not place.is_relative_to(top):
                break
            limit = place / name
            # The path of a process may be one of outside its container: then only the top is there.
            if limit.exists() and (count := whole_number(limit.read_text().strip())) is not None:
                found.append(count)
    return found


def _default_socket(cache: str, env: Mapping[str, str]) -> str:
    if os.geteuid() == 0:
        runtime = Path("/run/headrace")
    elif env.get("XDG_RUNTIME_DIR"):
        runtime = Path(env["XDG_RUNTIME_DIR"]) / "headrace"
    else:
        runtime = Path(f"/tmp/headrace-{os.geteuid()}")  # noqa: S108 - 0700 and checked before use
    name = hashlib.blake2b(cache.encode(), digest_size=4).hexdigest()
    return str(runtime / f"node-{name}.sock")


def reference() -> str:
    """The settings as a Markdown page."""
    lines = [
        "# Settings",
        "",
        "Generated from `headrace/settings.py`. Precedence: option, environment, TOML file, default.",
        "",
    ]
    lines += ["| name in TOML | environment | kind | default | meaning |", "|---|---|---|---|---|"]
    lines += [f"| `{s.name}` | `{s.variable}` | {s.kind} | {s.default or '—'} | {s.meaning} |" for s in SETTINGS]
    return "\n".join(lines) + "\n"
