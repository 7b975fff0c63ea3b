"""Which control plane commands speak to: `HEADRACE_CONTROL_URL` and `HEADRACE_TOKEN`, or what `headrace login` remembered."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from headrace.errors import CredentialFailure, UsageError

# A URL, a token, and the path of a file.
_LOGIN_BYTES_MAX = 8192


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


class Keeping:
    """A place for a login, taken before there is one to keep: what can't be written is told while nothing is lost. Use with `with`."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._path = login_file(os.environ if environ is None else environ)

    def __enter__(self) -> Keeping:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Readable by this user only.
            self._descriptor, self._part = tempfile.mkstemp(prefix=".login.", dir=self._path.parent)
            # Room for it too.
            os.write(self._descriptor, b" " * _LOGIN_BYTES_MAX)
        except OSError as error:
            raise UsageError(
                "bad-setting", f"{self._path} can't be written: {error.strerror}; correct it, or set XDG_CONFIG_HOME to a directory of yours"
            ) from None
        return self

    def keep(self, login: Login) -> Path:
        """Keeps the login; where it is kept."""
        content = json.dumps(asdict(login)).encode() + b"\n"
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))
        os.fsync(self._descriptor)
        os.replace(self._part, self._path)
        return self._path

    def __exit__(self, *exc: object) -> None:
        os.close(self._descriptor)
        with contextlib.suppress(FileNotFoundError):  # it was kept, under its name
            os.unlink(self._part)


def remember(login: Login, environ: Mapping[str, str] | None = None) -> Path:
    """Keeps a login, readable by this user only; where it is kept."""
    with Keeping(environ) as keeping:
        return keeping.keep(login)


def login_file(env: Mapping[str, str]) -> Path:
    home = Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME", "/")) / ".config")
    return home / "headrace" / "login.json"
