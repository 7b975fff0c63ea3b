"""Which control plane commands speak to: `HEADRACE_CONTROL_URL` and `HEADRACE_TOKEN`, or what `headrace login` remembered."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from headrace.errors import CredentialFailure, UsageError


@dataclass(frozen=True)
class Login:
    """A control plane and a token for it; `certificates` is a file of authorities to trust in place of the system's."""

    url: str
    token: str = field(repr=False)
    certificates: str | None = None


def remembered(environ: Mapping[str, str] | None = None) -> Login:
    """The login in force. Raises CredentialFailure where there is none."""
    env = os.environ if environ is None else environ
    if env.get("HEADRACE_CONTROL_URL") and env.get("HEADRACE_TOKEN"):
        return Login(env["HEADRACE_CONTROL_URL"], env["HEADRACE_TOKEN"], env.get("HEADRACE_CONTROL_CA") or None)
    path = login_file(env)
    try:
        kept = json.loads(path.read_text())
        return Login(str(kept["url"]), str(kept["token"]), kept.get("certificates"))
    except FileNotFoundError:
        raise CredentialFailure(
            "not-logged-in", "not logged in to a control plane; run `headrace login URL`, or set HEADRACE_CONTROL_URL and HEADRACE_TOKEN"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError("bad-setting", f"{path} can't be read: {error}; run `headrace login URL` again") from None


def remember(login: Login, environ: Mapping[str, str] | None = None) -> Path:
    """Keeps a login, readable by this user only; where it is kept."""
    path = login_file(os.environ if environ is None else environ)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(asdict(login)) + "\n")
    part.replace(path)
    return path


def login_file(env: Mapping[str, str]) -> Path:
    home = Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME", "/")) / ".config")
    return home / "headrace" / "login.json"
