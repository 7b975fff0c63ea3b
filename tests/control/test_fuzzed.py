"""The API, asked by schemathesis from its own document: boundary values of every field, and values at random, drawn alike at every run.

No answer is a failure or holds a secret, and each is what the document says. `make fuzz ARGS=api` goes on for longer (docs/fuzzing.md).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.api.asking import ask
from fuzz.api.plane import asked


@pytest.mark.timeout(240)
def test_whatever_is_asked_is_answered_as_the_document_says(tmp_path: Path, database: str | None) -> None:
    with asked(tmp_path, database) as control:
        for role, phases in (("user", "fuzzing"), ("admin", "coverage,fuzzing")):
            done = ask(control, role, phases=phases, examples=5)
            assert done.returncode == 0, done.stdout
        log = control.log.read_text()
    assert "Traceback" not in log
    assert not [secret for secret in control.secrets if secret in log]
