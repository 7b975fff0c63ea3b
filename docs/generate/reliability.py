"""The figures of `docs/reliability.md` and its translation: of each trial of the campaign the newest committed result.

They stand between two marks in pages that are written by hand, so that what is said and what was measured lie side by side.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.report import number

DOCS = Path(__file__).parents[1]
RESULTS = DOCS.parent / "campaign/results"
BEGIN, END = "<!-- figures, written by `make docs` -->", "<!-- end of figures -->"

WORDS = {
    "reliability.md": {
        "none": "No result has been committed yet: `make campaign` and `make soak` write into `campaign/results`.",
        "head": "| figure | measured | must be |",
        "about": "`{command}`: {when}, seed {seed}, {minutes} min, {cpu}, {cores} cores, {memory:.0f} GiB, disk {disk}, "
        "load before {load:.2g}, Linux {kernel}, {share}revision {commit}.",
        "share": "{share:g} of the full length, ",
        "median": " (median of {count})",
        "worst": " (worst of {count})",
    },
    "reliability.zh-CN.md": {
        "none": "尚无已提交的结果：`make campaign` 与 `make soak` 会写入 `campaign/results`。",
        "head": "| 指标 | 实测 | 要求 |",
        "about": "`{command}`：{when}，种子 {seed}，{minutes} 分钟，{cpu}，{cores} 核，{memory:.0f} GiB，磁盘 {disk}，"
        "开始前负载 {load:.2g}，Linux {kernel}，{share}版本 {commit}。",
        "share": "完整长度的 {share:g}，",
        "median": "（{count} 个值的中位数）",
        "worst": "（{count} 个值中最差的）",
    },
}


def page(name: str, results: Path = RESULTS) -> str:
    """A page with its figures as they are now."""
    text = (DOCS / name).read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{_figures(newest(results), WORDS[name])}\n{END}{after}"


def newest(results: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Trial → the newest run that has it, and what it gave."""
    found = {}
    for path in sorted(results.glob("*/results.json")):
        about = json.loads(path.read_text())
        found.update({trial["scenario"]: (about, trial) for trial in about["scenarios"]})
    return dict(sorted(found.items()))


def _figures(found: dict[str, tuple[dict[str, Any], dict[str, Any]]], words: dict[str, str]) -> str:
    if not found:
        return f"{words['none']}\n"
    return "\n".join(_trial(name, about, trial, words) for name, (about, trial) in found.items())


def _trial(name: str, about: dict[str, Any], trial: dict[str, Any], words: dict[str, str]) -> str:
    machine = about["machine"]
    told = words["about"].format(
        command="make soak" if name == "soak" else f'make campaign ARGS="{name}"',
        when=about["when"][:10],
        seed=about["seed"],
        minutes=number(trial["seconds"] / 60),
        cpu=machine["cpu"],
        cores=machine["cores"],
        memory=machine["memory_bytes"] / 2**30,
        disk=_disk(machine["file_system"]),
        load=machine["load_before"][0],
        kernel=machine["kernel"].partition("-")[0],
        share="" if about["share"] == 1 else words["share"].format(share=about["share"]),
        commit=machine["versions"]["commit"],
    )
    lines = [f"### {name}", "", told, "", words["head"], "|---|---|---|", *(_line(figure, words) for figure in trial["figures"])]
    return "\n".join(lines) + "\n"


def _disk(file_system: str) -> str:
    """Device and kind, of `findmnt`'s line."""
    return " ".join(file_system.split()[:2])


def _line(figure: dict[str, Any], words: dict[str, str]) -> str:
    bound, count = figure["bound"], len(figure["values"])
    wanted = f"{bound['sign']} {bound['limit']:.4g}" if bound else ""
    verdict = " — **missed**" if figure["reached"] is False else ""
    stands_for = "" if count == 1 else words["worst" if figure["worst"] and bound else "median"].format(count=count)
    measured = f"{number(figure['judged'])} {figure['unit']}".strip()
    return f"| {figure['what']} | {measured}{stands_for} | {wanted}{verdict} |".replace("  ", " ")
