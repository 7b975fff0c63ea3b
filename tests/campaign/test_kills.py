"""The kill campaign for a few seconds."""

from __future__ import annotations

from pathlib import Path

from campaign.plan import Plan
from campaign.trials import kills


def test_kills_of_all_kinds(tmp_path: Path) -> None:
    figures = kills.run(Plan(tmp_path, seed=7, share=0.03))
    print("\n".join(f"{figure.what}: {figure.values} {figure.bound or ''}" for figure in figures))
    assert [figure.what for figure in figures if figure.reached is False] == []
