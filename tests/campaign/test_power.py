"""The trial of power losses for a few seconds."""

from __future__ import annotations

from pathlib import Path

from campaign.plan import Plan
from campaign.trials import power


def test_power_losses(tmp_path: Path) -> None:
    figures = power.run(Plan(tmp_path, seed=11, share=0.03))
    print("\n".join(f"{figure.what}: {figure.values} {figure.bound or ''}" for figure in figures))
    assert [figure.what for figure in figures if figure.reached is False] == []
