"""A master key that never comes here: another program seals data keys and opens them, such as a cloud's client of its KMS in a short script."""

from __future__ import annotations

import base64
import binascii
import os
import shlex
import subprocess

from headrace.errors import UsageError

_SECONDS = 30
# A data key, and what a KMS adds to it.
_ANSWER_BYTES_MAX = 16 * 1024
_NAME_MAX = 64


class CommandMasterKey:
    """Calls `COMMAND wrap` and `COMMAND unwrap`: base 64 on its standard input, base 64 on its standard output. Its errors go to our log."""

    def __init__(self, text: str) -> None:
        try:
            self._command = shlex.split(text)
        except ValueError as error:
            raise UsageError("bad-setting", f"control master key command: it can't be read ({error}); quote it as in a shell") from None
        if not self._command:
            raise UsageError("bad-setting", "control master key command: it is empty; give a program")
        self.name = f"command {os.path.basename(self._command[0])}"[:_NAME_MAX]

    def wrap(self, key: bytes) -> bytes:
        """The data key, sealed."""
        return self._asked("wrap", key)

    def unwrap(self, sealed: bytes) -> bytes:
        """The data key again. Raises UsageError when the program refuses."""
        return self._asked("unwrap", sealed)

    def _asked(self, what: str, data: bytes) -> bytes:
        try:
            done = subprocess.run([*self._command, what], input=base64.b64encode(data) + b"\n", stdout=subprocess.PIPE, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise self._failed(what, f"took longer than {_SECONDS} s") from None
        except OSError as error:
            raise self._failed(what, f"can't be started: {error.strerror}") from None
        if done.returncode:
            raise self._failed(what, f"ended with {done.returncode}; its own words are in the log")
        try:
            answer = base64.b64decode(done.stdout.strip(), validate=True) if len(done.stdout) <= _ANSWER_BYTES_MAX else b""
        except (binascii.Error, ValueError):
            answer = b""
        if not answer:
            raise self._failed(what, "did not answer in base 64")
        return answer

    def _failed(self, what: str, how: str) -> UsageError:
        return UsageError("bad-setting", f"control master key command: `{self._command[0]} {what}` {how}; try it by hand, and correct it")
