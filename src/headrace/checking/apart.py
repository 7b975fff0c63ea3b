"""A check in a process of its own, for whoever has threads and no event loop and shall not load botocore.

The question comes through standard input and the findings leave through standard output, so that no key shows in a process list. SIGTERM
breaks the check off: what it wrote is removed before it ends. So it is when whoever began it was killed: the check goes on to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from headrace.checking.findings import Finding, Text

# To remove what was written takes up to ten.
_END_SECONDS = 15.0

BROKEN_OFF = Finding(
    "check_region",
    "check-broken-off",
    Text("the check broke off on the node", "连接校验在节点上意外中断"),
    Text("the log of the node has the reason; check again", "原因见该节点的日志；请重新校验"),
)


class Apart:
    """One check that runs. `wait` for it, and `end` it in any case."""

    def __init__(self, question: Mapping[str, Any]) -> None:
        self._said: bytes | None = json.dumps(question).encode()
        self._process = subprocess.Popen([sys.executable, "-m", "headrace.checking"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def wait(self, seconds: float) -> list[dict[str, Any]] | None:
        """Documents of what was found; None where it still runs after these seconds."""
        try:
            output, _ = self._process.communicate(self._said, timeout=seconds)
        except subprocess.TimeoutExpired:
            self._said = None  # it is sent once, and `communicate` goes on with it
            return None
        try:
            return list(json.loads(output)["findings"])
        except (ValueError, KeyError, TypeError):
            return [BROKEN_OFF.document()]

    def end(self) -> None:
        """Breaks it off where it still runs."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


async def _found(said: Mapping[str, Any]) -> list[Finding]:
    from headrace.checking.check import check
    from headrace.checking.question import Question

    question = Question.read(said)
    work = asyncio.ensure_future(
        check(question.origin, question.credentials, question.rules, read_only=question.read_only, seconds=float(said["seconds"]))
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    return await work


def main() -> None:
    """The process."""
    said = json.load(sys.stdin)
    try:
        findings = asyncio.run(_found(said))
    except asyncio.CancelledError:
        sys.exit(1)
    json.dump({"findings": [finding.document() for finding in findings]}, sys.stdout)
