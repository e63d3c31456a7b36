"""Draws lines on logarithmic axes as SVG: text and shapes alone, readable on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 380
"""In pixels, of the picture."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 250, 36, 52
"""Margins. Names of lines are in the right one."""
_LINE_HEIGHT = 15
LIGHT = ("#0b62a4", "#b3452c", "#2c7a4b", "#7d5200", "#6b4fa0", "#0d6e75", "#5a5a5a")
DARK = ("#7cb8f2", "#f08a6e", "#74cf97", "#e0b04c", "#b9a3ea", "#5fd0d6", "#bdbdbd")
"""The colours of lines, by their place."""
INK, PAPER = ("#1f2328", "#e6edf3"), ("#ffffff", "#0d1117")
"""Text and background, light and dark."""
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 4", "12 3", "1 4")
"""So that lines differ without colours, too."""


@dataclass(frozen=True)
class Line:
    """A named line through points."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False
    """Whether each point is a measurement, which gets a dot."""


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis. Its ends are powers of ten, or any numbers with `ticks`."""

    title: str
    least: float
    most: float
    ticks: Sequence[float] = ()
    unit: str = ""

    def place(self, value: float) -> float:
        """Return where `value` is: 0 at the least, 1 at the most, and beyond its ends if it is."""
        return math.log(value / self.least) / math.log(self.most / self.least)

    def marks(self) -> Sequence[float]:
        """Return the values that are written beside the axis."""
        first, last = math.ceil(math.log10(self.least) - 1e-9), math.floor(math.log10(self.most) + 1e-9)
        return self.ticks or [10.0**power for power in range(first, last + 1)]


@dataclass(frozen=True)
class Mark:
    """A horizontal line at a value that matters."""

    value: float
    name: str


def drawn(title: str, across: Axis, up: Axis, lines: Sequence[Line], marks: Sequence[Mark] = ()) -> str:
    """Return the picture."""
    parts = [_head(title, lines), *_grid(across, up)]
    for mark in marks:
        y = _y(up, mark.value)
        parts.append(f'<line class="mark" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="strong" x="{_LEFT + 6}" y="{y - 5:.1f}">{escape(mark.name)}</text>')
    for number, line in enumerate(lines):
        parts += _line(number, line, across, up)
    parts += _names(lines, across, up)
    return "\n".join([*parts, "</svg>", ""])


def _head(title: str, lines: Sequence[Line]) -> str:
    about = f"{title}. Lines: {', '.join(line.name for line in lines)}."
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{escape(about)}</title>",
            "<style>",
            "text{font:12px system-ui,sans-serif}.strong{font-weight:600}",
            ".end{text-anchor:end}.middle{text-anchor:middle}",
            ".line{fill:none;stroke-width:2}.grid{stroke:#808080;stroke-opacity:.3}",
            ".mark{stroke-width:1.5;stroke-dasharray:5 4}",
            colours(INK[0], PAPER[0], LIGHT),
            f"@media(prefers-color-scheme:dark){{{colours(INK[1], PAPER[1], DARK)}}}",
            "</style>",
            '<rect class="paper" width="100%" height="100%"/>',
            f'<text class="strong" x="{_LEFT}" y="20">{escape(title)}</text>',
        )
    )


def colours(ink: str, paper: str, of_lines: Sequence[str]) -> str:
    """Return the style of text, background and lines."""
    rules = [f"text{{fill:{ink}}}.mark{{stroke:{ink}}}.paper{{fill:{paper}}}"]
    rules += [f".l{n}{{stroke:{colour}}}.t{n}{{fill:{colour}}}" for n, colour in enumerate(of_lines)]
    return "".join(rules)


def _grid(across: Axis, up: Axis) -> list[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value in across.marks():
        x = _x(across, value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="middle" x="{x:.1f}" y="{bottom + 18}">{shown(value)}{across.unit}</text>')
    for value in up.marks():
        y = _y(up, value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end" x="{_LEFT - 6}" y="{y + 4:.1f}">{shown(value)}{up.unit}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text class="middle" x="{middle}" y="{HEIGHT - 12}">{escape(across.title)}</text>')
    turned = f"translate(14 {(_TOP + bottom) / 2}) rotate(-90)"
    return [*parts, f'<text class="middle" transform="{turned}">{escape(up.title)}</text>']


def _line(number: int, line: Line, across: Axis, up: Axis) -> list[str]:
    seen = [(_x(across, x), _y(up, y)) for x, y in _within(line.points, across, up)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in seen)
    dash = f' stroke-dasharray="{_DASHES[number]}"' if _DASHES[number] else ""
    parts = [f'<polyline class="line l{number}"{dash} points="{path}"/>']
    return parts + [f'<circle class="t{number}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in seen if line.dots]


def _within(points: Sequence[tuple[float, float]], across: Axis, up: Axis) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if across.least <= x <= across.most and up.least <= y <= up.most]


def _names(lines: Sequence[Line], across: Axis, up: Axis) -> list[str]:
    """Return the names of the lines beside their ends, moved apart where they would overlap."""
    ends = []
    for number, line in enumerate(lines):
        for x, y in _within(line.points, across, up)[-1:]:
            ends.append((_y(up, y), _x(across, x), number, line.name))
    parts, free = [], float(_TOP)
    for y, x, number, name in sorted(ends):
        at = max(y + 4, free)
        free = at + _LINE_HEIGHT
        parts.append(f'<line class="grid" x1="{x + 3:.1f}" x2="{WIDTH - _RIGHT + 14}" y1="{y:.1f}" y2="{at - 4:.1f}"/>')
        parts.append(f'<text class="t{number}" x="{WIDTH - _RIGHT + 18}" y="{at:.1f}">{escape(name)}</text>')
    return parts


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.place(value) * (WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.place(value) * (HEIGHT - _TOP - _BOTTOM)


def shown(value: float) -> str:
    """Return the value as it is written beside an axis."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:g} M"
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
