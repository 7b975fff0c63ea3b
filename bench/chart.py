"""The chart of a result: for each job, every system's share of the ceiling of the same run. Plain SVG, for light and dark pages.

python -m bench.chart bench/results/…/results.json > chart.svg
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

Panel = Mapping[str, float]  # share of the ceiling, by system

_OURS = "headrace"
_COLUMNS = 2
_PANEL_WIDTH, _GAP, _MARGIN = 410, 30, 16
_LABEL_WIDTH, _VALUE_WIDTH = 124, 36
_HEAD, _ROW, _BAR = 40, 20, 13
_STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
.title { font-weight: 600 } .small { font-size: 11px; fill: #59636e }
.bar { fill: #b6bfc9 } .ours { fill: #0969da } .ceiling { stroke: #59636e; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .bar { fill: #4b535d } .ours { fill: #4493f8 } .ceiling { stroke: #9198a1 }
}
"""


def svg(panels: Mapping[str, Panel]) -> str:
    """A title may have a second line, after a line break."""
    columns: list[list[str]] = [[] for _ in range(_COLUMNS)]
    heights = [_MARGIN] * _COLUMNS
    for title, panel in panels.items():
        column = heights.index(min(heights))
        x = _MARGIN + column * (_PANEL_WIDTH + _GAP)
        columns[column].append(_panel(title, panel, x, heights[column]))
        heights[column] += _HEAD + len(panel) * _ROW + _GAP
    width = _COLUMNS * _PANEL_WIDTH + (_COLUMNS - 1) * _GAP + 2 * _MARGIN
    told = "; ".join(f"{title}: {', '.join(f'{name} {value:.2f}' for name, value in panel.items())}" for title, panel in panels.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{max(heights)}" viewBox="0 0 {width} {max(heights)}" role="img">'
        f"<title>Share of the ceiling of the same run, higher is better</title><desc>{escape(told)}</desc>"
        f"<style>{_STYLE}</style>{''.join(part for column in columns for part in column)}</svg>\n"
    )


def _panel(title: str, panel: Panel, x: int, y: int) -> str:
    most = max(1.0, *panel.values())
    full = (_PANEL_WIDTH - _LABEL_WIDTH - _VALUE_WIDTH) / most  # pixels of the ceiling
    left = x + _LABEL_WIDTH
    first, _, second = title.partition("\n")
    parts = [
        f'<text class="title" x="{x}" y="{y + 12}">{escape(first)}</text>',
        f'<text class="small" x="{x}" y="{y + 28}">{escape(second)}</text>',
    ]
    for number, name in enumerate(_order(panel)):
        top = y + _HEAD + number * _ROW
        kind = "bar ours" if name == _OURS else "bar"
        label = "Headrace" if name == _OURS else name
        length = panel[name] * full
        parts += [
            f'<text x="{left - 8}" y="{top + 11}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{kind}" x="{left}" y="{top}" width="{max(length, 1):.1f}" height="{_BAR}" rx="2"/>',
            f'<text class="small" x="{x + _PANEL_WIDTH}" y="{top + 11}" text-anchor="end">{panel[name]:.2f}</text>',
        ]
    bottom = y + _HEAD + len(panel) * _ROW
    parts.append(f'<line class="ceiling" x1="{left + full:.1f}" y1="{y + _HEAD - 6}" x2="{left + full:.1f}" y2="{bottom}"/>')
    return "".join(parts)


def _order(panel: Panel) -> list[str]:
    """Ours first, then the best."""
    return sorted(panel, key=lambda name: (name != _OURS, -panel[name]))


if __name__ == "__main__":
    sys.stdout.write(svg(json.loads(Path(sys.argv[1]).read_text())["chart"]))
