"""The master key: from the environment, from a file, or kept by somebody else who seals data keys with it (`command.py`)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headrace.control.ownership import must_be_private
from headrace.control.settings import ControlSettings
from headrace.control.vault.command import CommandMasterKey
from headrace.errors import UsageError

_KEY_BYTES = 32
_NONCE_BYTES = 12
_PURPOSE = b"headrace data key"


class MasterKey(Protocol):
    """What seals data keys."""

    @property
    def name(self) -> str:
        """Which key this is; kept beside what it sealed."""

    def wrap(self, key: bytes) -> bytes:
        """The data key, sealed."""

    def unwrap(self, sealed: bytes) -> bytes:
        """The data key again. Raises UsageError when another master key sealed it."""


class LocalMasterKey:
    """A master key in this process's memory."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        # A name that tells two keys apart and nothing of the key.
        self.name = base64.b32encode(AESGCM(key).encrypt(bytes(_NONCE_BYTES), b"", b"headrace key name")).decode().lower()[:16]

    def wrap(self, key: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, key, _PURPOSE)

    def unwrap(self, sealed: bytes) -> bytes:
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _PURPOSE)
        except InvalidTag:
            raise UsageError("bad-setting", "control master key: it is not the one this database was written with; give that one") from None


def open_master(settings: ControlSettings) -> MasterKey:
    """The master key that the settings name; made and kept in its file where there is none and the database is this machine's own."""
    if settings.master_key_command:
        if settings.master_key:
            raise UsageError("bad-setting", "control master key: there is a key and a command; give one of them")
        return CommandMasterKey(settings.master_key_command)
    if settings.master_key:
        return LocalMasterKey(_decoded("control master key", settings.master_key))
    path = settings.master_key_file
    try:
        text = path.read_text()
    except FileNotFoundError:
        if not settings.on_sqlite:
            raise UsageError(
                "bad-setting", f"control master key: there is none at {path}; give every replica the same control_master_key_file"
            ) from None
        text = _made(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("bad-setting", f"control master key file: {path} can't be read: {error}; correct it") from None
    must_be_private("control master key file", path)
    return LocalMasterKey(_decoded("control master key file", text.strip()))


def _made(path: Path) -> str:
    """The key in its file, a new one where nobody was faster. It is there whole or not at all, and on the disk before it seals anything."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A file of our own, for others may start at the same moment; readable by its owner only.
        descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(part, path)  # never over a key that another process just made
        finally:
            os.unlink(part)
        _sync(path.parent)
        # What counts is what the next start finds.
        return path.read_text()
    except OSError as error:
        raise UsageError("bad-setting", f"control master key file: {path} can't be made: {error.strerror}; choose another place") from None


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _decoded(field: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise UsageError("bad-setting", f"{field}: it is not 32 bytes in base 64; make one with `openssl rand -base64 32`")
    return key
