"""How the plots of the report are drawn: SVG without scripts, fonts or pictures from elsewhere.

Shapes have positions in percent, and all text is beside them in HTML: so a plot fits any width, and its text keeps its
size. Each shape has a title with its count, which a browser shows under the pointer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WIDEST_COLUMN = 6.0
"""In percent."""
_MOST_LABELS = 3
"""Labels that fit below the columns of a plot on a narrow screen."""
_COLOURS = {"allowed": "#2f6f9f", "denied": "#b3452c", "failed": "#c98a1b", "unfinished": "#7a7a7a"}
STYLE = """
.columns{display:grid;grid-template-columns:auto minmax(0,1fr);gap:.3rem .6rem}
.columns svg{width:100%;height:12rem;display:block}.scale{display:flex;flex-direction:column;
justify-content:space-between;text-align:right;font-size:12px;color:var(--soft)}
.moments{grid-column:2;display:flex;justify-content:space-between;margin:0;font-size:12px;color:var(--soft)}
.moments.each span{flex:1;text-align:center}
.bar{display:grid;grid-template-columns:15rem minmax(0,1fr) auto;gap:.1rem .8rem;align-items:center;padding:.15rem 0}
.bar svg{width:100%;height:1.3rem;display:block}
.bar .name{overflow-wrap:anywhere}.bar .counts{min-width:4.5rem;text-align:right}
.bars.several .counts{min-width:17rem;text-align:left}
.legend span{margin-right:1.2rem;color:var(--soft)}.grid{stroke:var(--line)}
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.4em;border-radius:2px;
print-color-adjust:exact;-webkit-print-color-adjust:exact}
@media (max-width:44rem){.bar{grid-template-columns:minmax(0,1fr) auto}.bar svg{grid-row:2;grid-column:1/3;height:.9rem}
.bars.several .bar{grid-template-columns:minmax(0,1fr)}.bars.several .bar svg{grid-column:1}}
"""


def columns(buckets: Sequence[tuple[str, Mapping[str, int]]], series: Sequence[str]) -> str:
    """Return stacked columns over time.

    Args:
        buckets: for each column its label, and its count by series.
        series: the names of the series, from the bottom of a column to its top.
    """
    highest = max((sum(counts.values()) for _, counts in buckets), default=0) or 1
    top = _rounded(highest)
    step = 100 / max(len(buckets), 1)
    parts = [f'<line x1="0" x2="100%" y1="{y}%" y2="{y}%" class="grid"/>' for y in (0.3, 50, 99.7)]
    for index, (label, counts) in enumerate(buckets):
        below = 0
        for name in series:
            if count := counts.get(name, 0):
                y, height = 100 - 100 * (below + count) / top, 100 * count / top
                width, text = min(step * 0.9, _WIDEST_COLUMN), f"{label}: {count} {name}"
                parts.append(_rectangle((index + 0.5) * step - width / 2, y, width, height, name, text))
                below += count
    marks = (f"{top:,}", f"{top // 2:,}" if top > 1 else "", "0")
    scale = "".join(f"<span>{mark}</span>" for mark in marks)
    labels = [label for label, _ in buckets]
    is_each_shown = len(labels) <= _MOST_LABELS
    shown = labels if is_each_shown else [labels[0], labels[len(labels) // 2], labels[-1]]
    moments = "".join(f"<span>{escape(label)}</span>" for label in shown)
    kind = "moments each" if is_each_shown else "moments"
    plot = f'<div class="scale">{scale}</div>{_svg(parts)}<p class="{kind}">{moments}</p>'
    return f'<div class="columns">{plot}</div>{_legend(series)}'


def bars(rows: Sequence[tuple[str, Mapping[str, int]]], series: Sequence[str]) -> str:
    """Return horizontal bars.

    Args:
        rows: for each bar its label, and its count by series.
        series: the names of the series, from left to right.
    """
    highest = max((sum(counts.values()) for _, counts in rows), default=0) or 1
    several = len(series) > 1
    parts = []
    for label, counts in rows:
        x, shapes = 0.0, []
        for name in series:
            if count := counts.get(name, 0):
                width = 100 * count / highest
                shapes.append(_rectangle(x, 0, width, 100, name, f"{label}: {count} {name}"))
                x += width
        total = ", ".join(f"{counts[name]:,} {name}" for name in series if counts.get(name)) if several else ""
        shown = escape(total or f"{sum(counts.values()):,}")
        name = f'<span class="name">{escape(label)}</span>'
        parts.append(f'<div class="bar">{name}{_svg(shapes)}<span class="counts">{shown}</span></div>')
    kind = "bars several" if several else "bars"
    return f'<div class="{kind}">{"".join(parts)}</div>' + (_legend(series) if several else "")


def _svg(parts: Sequence[str]) -> str:
    return f'<svg role="img">{"".join(parts)}</svg>'


def _rectangle(x: float, y: float, width: float, height: float, series: str, text: str) -> str:
    shape = f'x="{x:.2f}%" y="{y:.2f}%" width="{max(width, 0.2):.2f}%" height="{height:.2f}%"'
    return f'<rect {shape} fill="{_COLOURS[series]}"><title>{escape(text)}</title></rect>'


def _legend(series: Sequence[str]) -> str:
    items = (f'<span><i style="background:{_COLOURS[name]}"></i>{escape(name)}</span>' for name in series)
    return f'<p class="legend">{"".join(items)}</p>'


def _rounded(value: int) -> int:
    """Return a round number that is not below `value`, for the end of an axis."""
    size = int("1" + "0" * (len(str(value)) - 1))
    return next(step * size for step in (1, 2, 4, 6, 8, 10) if step * size >= value)
