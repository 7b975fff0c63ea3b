"""Figures that the node gives out."""

from __future__ import annotations

from headrace.node.metrics import METRICS, PREFIX, kind


def page() -> str:
    lines = [
        "# Metrics",
        "",
        "Generated from `headrace/node/metrics.py`. `headrace metrics` prints them as Prometheus text; `headrace status --json` has them under",
        "`counters`, without the prefix. Counters start at 0 with each node; those of mounts and origins lose what belonged to a mount that is gone.",
        "",
        "| name | kind | meaning |",
        "|---|---|---|",
        *(f"| `{PREFIX}{name}` | {kind(name)} | {meaning} |" for name, meaning in METRICS.items()),
    ]
    return "\n".join(lines) + "\n"
