"""How the plots of the report are drawn: SVG without scripts, fonts or pictures from elsewhere.

Each shape has a title with its count, which a browser shows under the pointer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _LEFT, _RIGHT = 860, 54, 8
_BAR, _LABELS, _HEIGHT = 24, 260, 190
_ROOM_FOR_COUNTS, _ROOM_FOR_COUNT = 260, 90
_COLOURS = {"allowed": "#2f6f9f", "denied": "#b3452c", "failed": "#c98a1b", "unfinished": "#7a7a7a"}


def columns(buckets: Sequence[tuple[str, Mapping[str, int]]], series: Sequence[str]) -> str:
    """Return stacked columns over time.

    Args:
        buckets: for each column its label, and its count by series.
        series: the names of the series, from the bottom of a column to its top.
    """
    highest = max((sum(counts.values()) for _, counts in buckets), default=0) or 1
    top = _rounded(highest)
    width = (_WIDTH - _LEFT - _RIGHT) / max(len(buckets), 1)
    parts = [_axis(value, _HEIGHT - _HEIGHT * value / top) for value in (0, top // 2, top) if value or not top]
    for index, (label, counts) in enumerate(buckets):
        x, below = _LEFT + index * width, 0
        for name in series:
            count = counts.get(name, 0)
            if count:
                y, height = _HEIGHT - _HEIGHT * (below + count) / top, _HEIGHT * count / top
                shape = f'x="{x:.1f}" y="{y + 10:.1f}" width="{max(width - 1, 0.8):.1f}" height="{height:.1f}"'
                parts.append(f'<rect {shape} fill="{_COLOURS[name]}">{_title(f"{label}: {count} {name}")}</rect>')
                below += count
    every = max(1, len(buckets) // 6)
    for index in range(0, len(buckets), every):
        x = _LEFT + index * width
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT + 28}" class="axis">{escape(buckets[index][0])}</text>')
    return _svg(_HEIGHT + 36, parts) + _legend(series)


def bars(rows: Sequence[tuple[str, Mapping[str, int]]], series: Sequence[str]) -> str:
    """Return horizontal bars.

    Args:
        rows: for each bar its label, and its count by series.
        series: the names of the series, from left to right.
    """
    highest = max((sum(counts.values()) for _, counts in rows), default=0) or 1
    longest = _WIDTH - _LABELS - (_ROOM_FOR_COUNTS if len(series) > 1 else _ROOM_FOR_COUNT)
    parts = []
    for index, (label, counts) in enumerate(rows):
        y, x = index * (_BAR + 6) + 4, float(_LABELS)
        parts.append(f'<text x="{_LABELS - 8}" y="{y + 16}" class="label">{escape(_shortened(label))}</text>')
        for name in series:
            width = longest * counts.get(name, 0) / highest
            if width:
                shape = f'x="{x:.1f}" y="{y}" width="{max(width, 1):.1f}" height="{_BAR}"'
                text = f"{label}: {counts[name]} {name}"
                parts.append(f'<rect {shape} fill="{_COLOURS[name]}">{_title(text)}</rect>')
                x += max(width, 1)
        total = ", ".join(f"{counts[name]:,} {name}" for name in series if counts.get(name)) if len(series) > 1 else ""
        shown = total or f"{sum(counts.values()):,}"
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 16}">{escape(shown)}</text>')
    return _svg(len(rows) * (_BAR + 6) + 8, parts) + (_legend(series) if len(series) > 1 else "")


def _svg(height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(parts)}</svg>'


def _legend(series: Sequence[str]) -> str:
    items = (f'<span><i style="background:{_COLOURS[name]}"></i>{escape(name)}</span>' for name in series)
    return f'<p class="legend">{"".join(items)}</p>'


def _axis(value: int, y: float) -> str:
    line = f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y + 10:.1f}" y2="{y + 10:.1f}" class="grid"/>'
    return f'{line}<text x="{_LEFT - 6}" y="{y + 14:.1f}" class="label">{value:,}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _rounded(value: int) -> int:
    """Return a round number that is not below `value`, for the end of an axis."""
    size = int("1" + "0" * (len(str(value)) - 1))
    return next(step * size for step in (1, 2, 4, 6, 8, 10) if step * size >= value)


def _shortened(label: str) -> str:
    return label if len(label) <= 36 else f"{label[:35]}…"  # noqa: PLR2004 - as many characters fit beside the bars
