"""`mount.headrace`: what `mount` and systemd run for a line of /etc/fstab such as

    s3://models/qwen  /models/qwen  headrace  _netdev,nofail,allow_other,profile=models  0 0

Options of ours: endpoint=, region=, addressing=, anonymous, profile=, credentials_file=, config_file= (AWS files),
snapshot=, pin, allow_other, uid=, gid=, file_mode=, dir_mode=, cache_dir=, cache_size=, cache_reserve=, memory=.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from headrace.amounts import whole_number
from headrace.cli import show
from headrace.cli.mounting import ID_MAX, MountRequest, carry_out, mode, tell
from headrace.cli.place import place
from headrace.errors import Exit, HeadraceError, UsageError
from headrace.node.volumes import parse_uri

_USAGE = "usage: mount.headrace s3://BUCKET[/PREFIX] DIR [-sfnv] [-o OPTIONS]"
# What mount, systemd and tools put there and we need not know.
_OTHERS = {
    "ro", "defaults", "auto", "noauto", "user", "nouser", "users", "_netdev", "nofail", "nosuid", "nodev", "noatime", "relatime",
    "noexec", "exec", "async", "sync",
}  # fmt: skip
_ENVIRONMENT = {"profile": "AWS_PROFILE", "credentials_file": "AWS_SHARED_CREDENTIALS_FILE", "config_file": "AWS_CONFIG_FILE"}
_ORIGIN = {"endpoint", "region", "addressing"}
_SETTINGS = {"cache_dir", "cache_size", "cache_reserve", "memory"}
_LOOK: dict[str, Callable[[str, str], int]] = {
    "uid": lambda name, text: _number(name, text),
    "gid": lambda name, text: _number(name, text),
    "file_mode": mode,
    "dir_mode": mode,
}


def parse(source: str, directory: str, options: list[str]) -> tuple[MountRequest, dict[str, str | None]]:
    """The mount that a line of fstab asks for, and the settings it brings. UsageError names a wrong option."""
    parse_uri(source)
    request = MountRequest(source, place(directory))
    settings: dict[str, str | None] = {}
    for option in (o.strip() for group in options for o in group.split(",")):
        name, _, value = option.partition("=")
        if not name or name in _OTHERS or name.startswith(("x-", "comment")):
            continue
        if not _take(request, settings, name, value):
            raise UsageError("bad-setting", f"option: mount.headrace knows no {option!r}; `mount.headrace --help` lists the options")
    return request, settings


def _take(request: MountRequest, settings: dict[str, str | None], name: str, value: str) -> bool:
    flags: dict[str, tuple[dict[str, Any], str]] = {"anonymous": (request.origin, name), "allow_other": (request.look, name)}
    if name in flags and not value:
        flags[name][0][name] = True
    elif name == "pin" and not value:
        request.pin = True
    elif not value:
        return False
    elif name == "snapshot":
        request.snapshot = value
    elif name in _ENVIRONMENT:
        request.environment[_ENVIRONMENT[name]] = value
    elif name in _ORIGIN:
        request.origin[name] = value
    elif name in _LOOK:
        request.look[name] = _LOOK[name](name, value)
    elif name in _SETTINGS:
        settings[name] = value
    else:
        return False
    return True


def _number(name: str, text: str) -> int:
    number = whole_number(text)
    if number is None or number > ID_MAX:
        raise UsageError("bad-setting", f"{name}: {text!r} is not a number from 0 to {ID_MAX}; give the number of a user or group")
    return number


def _arguments(given: list[str]) -> tuple[list[str], list[str], set[str]]:
    """Places, options and flags, in whatever order mount gives them."""
    places: list[str] = []
    options: list[str] = []
    flags: set[str] = set()
    rest = iter(given)
    for argument in rest:
        if argument == "-o":
            options.append(next(rest, ""))
        elif argument in ("-t", "-N"):
            next(rest, None)
        elif argument.startswith("-") and argument != "--":
            flags.update(argument.lstrip("-") if not argument.startswith("--") else [argument])
        elif argument != "--":
            places.append(argument)
    return places, options, flags


def main() -> None:
    """The entry point."""
    places, options, flags = _arguments(sys.argv[1:])
    if "--help" in flags or "h" in flags:
        print(f"{_USAGE}\n\n{__doc__}")
        return
    try:
        if len(places) != 2:
            raise UsageError("bad-setting", f"arguments: {_USAGE}")
        request, chosen = parse(places[0], places[1], options)
        if "f" in flags:  # mount --fake: everything but the mount
            return
        # mount may run us with hardly an environment; root's AWS files are found through it.
        if "HOME" not in request.environment and os.geteuid() == 0:
            request.environment["HOME"] = "/root"
        carry_out(request, chosen, partial(tell, request) if "v" in flags else lambda _: None, show.Progress(quiet=True))
    except HeadraceError as failure:
        show.error(failure)
        sys.exit(failure.exit_code)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
