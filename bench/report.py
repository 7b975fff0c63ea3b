"""Results as a Markdown table and a chart for people, and as JSON with every value for whoever wants to look closer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.chart import svg
from bench.measure import Figure, quartiles


@dataclass(frozen=True)
class Outcome:
    """What a scenario gave, and how long it took in seconds."""

    scenario: str
    title: str
    figures: tuple[Figure, ...]
    seconds: float


def table(outcomes: list[Outcome]) -> str:
    """One line for each figure."""
    lines = ["| scenario | figure | measured | quartiles | n | must reach | |", "|---|---|---|---|---|---|---|"]
    lines += [_line(outcome.scenario, figure) for outcome in outcomes for figure in outcome.figures]
    return "\n".join(lines) + "\n"


def missed(outcomes: list[Outcome]) -> list[Figure]:
    return [figure for outcome in outcomes for figure in outcome.figures if figure.reached is False]


def document(outcomes: list[Outcome], about: dict[str, Any]) -> str:
    """Everything measured, as JSON."""
    scenarios = [
        {
            "scenario": outcome.scenario,
            "title": outcome.title,
            "seconds": round(outcome.seconds, 1),
            "figures": [_plain(figure) for figure in outcome.figures],
        }
        for outcome in outcomes
    ]
    return json.dumps({**about, "scenarios": scenarios}, indent=1, ensure_ascii=False) + "\n"


def write(directory: Path, outcomes: list[Outcome], about: dict[str, Any]) -> None:
    """`results.json`, `table.md`, and `chart.svg` where scenarios have drawn panels, in a directory; written again after each scenario."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(document(outcomes, about))
    (directory / "table.md").write_text(table(outcomes))
    if panels := about.get("chart"):
        (directory / "chart.svg").write_text(svg(panels))


def _plain(figure: Figure) -> dict[str, Any]:
    low, median, high = quartiles(figure.values)
    return {
        **asdict(figure),
        "lower_quartile": low,
        "median": median,
        "upper_quartile": high,
        "judged": figure.judged,
        "reached": figure.reached,
    }


def _line(scenario: str, figure: Figure) -> str:
    low, _, high = quartiles(figure.values)
    judged = f"{number(figure.judged)} {figure.unit}".strip()
    bound = "" if figure.bound is None else str(figure.bound)
    if figure.worst and figure.bound is not None:
        bound += " (worst)"
    verdict = {None: "", True: "reached", False: "**missed**"}[figure.reached]
    return f"| {scenario} | {figure.what} | {judged} | {number(low)}–{number(high)} | {len(figure.values)} | {bound} | {verdict} |"


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    digits = 2
    scaled = abs(value)
    while scaled < 1 and digits < 8:
        scaled *= 10
        digits += 1
    return f"{value:.{digits if abs(value) < 10 else 1}f}"
