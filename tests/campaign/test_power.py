"""The trial of power losses for a few seconds."""

from __future__ import annotations

from pathlib import Path

from campaign.plan import Plan
from campaign.trials import power

# On a busy machine the disk may have confirmed nothing by the time that these few images are taken.
LATE = "bytes adopted from the images"


def test_power_losses(tmp_path: Path) -> None:
    for seed in range(11, 16):
        (tmp_path / str(seed)).mkdir()
        figures = power.run(Plan(tmp_path / str(seed), seed=seed, share=0.03))
        print("\n".join(f"{figure.what}: {figure.values} {figure.bound or ''}" for figure in figures))
        missed = {figure.what for figure in figures if figure.reached is False}
        assert missed <= {LATE}
        if not missed:
            return
    raise AssertionError(f"{LATE}: none, in five tries")
