"""Pages that are written by the code are what the code would write now; figures are those of the newest results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from docs.generate import reliability

ROOT = Path(__file__).parents[2]


def test_what_make_docs_writes_is_committed() -> None:
    done = subprocess.run([sys.executable, "-m", "docs.generate", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_figures_are_those_of_the_newest_result_of_each_trial(tmp_path: Path) -> None:
    machine = {
        "cpu": "a processor", "cores": 2, "memory_bytes": 2**30, "kernel": "6.18.1-x", "file_system": "/dev/vda1 ext4 rw,relatime",
        "load_before": [0.25, 0.5, 1.0], "versions": {"commit": "abc"},
    }  # fmt: skip

    def result(when: str, trial: str, value: float) -> None:
        bound = {"sign": "≥", "limit": 100.0}
        figure = {"what": "kills", "unit": "", "values": [value], "judged": value, "bound": bound, "worst": False, "reached": value >= 100}
        pauses = {"what": "pauses", "unit": "s", "values": [1.0, 2.0, 3.0], "judged": 2.0, "bound": None, "worst": False, "reached": None}
        about = {"when": f"{when}T00:00:00", "seed": 7, "share": 1.0, "machine": machine}
        (tmp_path / when).mkdir()
        scenario = {"scenario": trial, "seconds": 120.0, "figures": [figure, pauses]}
        (tmp_path / when / "results.json").write_text(json.dumps({**about, "scenarios": [scenario]}))

    assert "No result" in reliability.page("reliability.md", tmp_path)
    result("2026-01-01", "kills", 3)
    result("2026-01-02", "kills", 100)
    result("2026-01-03", "soak", 99)
    for name in reliability.WORDS:
        page = reliability.page(name, tmp_path)
        assert "| kills | 100 | ≥ 100 |" in page
        assert "| kills | 99.0 | ≥ 100 — **missed** |" in page
        assert "make soak" in page
        assert "| pauses | 2.00 s" in page
        assert ("median of 3" in page) or ("3 个值的中位数" in page)
        assert "/dev/vda1 ext4" in page
        assert "0.25" in page
        assert "2026-01-01" not in page
