"""The picture of docs/performance.md: every figure with a target, as a share of that target."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape

from bench.measure import Row
from bench.scaling.plots import DARK, INK, LIGHT, PAPER, Axis, colours, shown

WIDTH = 760
"""In pixels. The height depends on the number of lines."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 330, 24, 44, 40
_LINE_HEIGHT = 15
_SIZE = re.compile(r" of (a file of \d+ MiB|\d+ files of 4 KiB)(?= on )")
_MET, _MISSED = "t2", "t1"


def drawn(rows: Sequence[Row]) -> str:
    """Return the picture. Rows of one name share a line, and so do sizes of one transfer to S3.

    A row whose target or figure is 0 has no place on a logarithmic axis, and is in the table alone.
    """
    lines: dict[str, list[Row]] = {}
    for row in rows:
        if row.share is not None:
            lines.setdefault(_SIZE.sub("", row.name), []).append(row)
    axis = _axis(row.share for each in lines.values() for row in each if row.share)
    height = _TOP + _LINE_HEIGHT * len(lines) + _BOTTOM
    parts = [_head(height), *_grid(axis, height)]
    for number, (name, each) in enumerate(lines.items()):
        y = _TOP + _LINE_HEIGHT * (number + 0.5)
        parts.append(f'<text class="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{escape(name)}</text>')
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts += [_dot(row, _x(axis, row.share), y) for row in each if row.share]
    return "\n".join([*parts, "</svg>", ""])


def _axis(shares: Iterable[float]) -> Axis:
    powers = [math.log10(share) for share in shares]
    least, most = math.floor(min(powers, default=-1)), math.ceil(max(powers, default=1))
    return Axis("share of the target; less is better", 10.0 ** min(least, -1), 10.0 ** max(most, 1))


def _head(height: int) -> str:
    title = "Figures as a share of their targets. Circles: the target is met. Squares: it is missed"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{title}</title>",
            "<style>",
            "text{font:12px system-ui,sans-serif}.strong{font-weight:600}",
            ".end{text-anchor:end}.middle{text-anchor:middle}",
            ".grid{stroke:#808080;stroke-opacity:.3}.mark{stroke-width:1.5;stroke-dasharray:5 4}",
            colours(INK[0], PAPER[0], LIGHT),
            f"@media(prefers-color-scheme:dark){{{colours(INK[1], PAPER[1], DARK)}}}",
            "</style>",
            '<rect class="paper" width="100%" height="100%"/>',
            f'<text class="strong" x="8" y="20">{title}</text>',
        )
    )


def _grid(axis: Axis, height: int) -> list[str]:
    parts, bottom = [], height - _BOTTOM
    for value in axis.marks():
        x, kind = _x(axis, value), "mark" if value == 1 else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{bottom}"/>')
        parts.append(f'<text class="middle" x="{x:.1f}" y="{bottom + 16}">{shown(value)}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    return [*parts, f'<text class="middle" x="{middle}" y="{height - 8}">{axis.title}</text>']


def _dot(row: Row, x: float, y: float) -> str:
    if row.met:
        return f'<circle class="{_MET}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    return f'<rect class="{_MISSED}" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.place(value) * (WIDTH - _LEFT - _RIGHT)
