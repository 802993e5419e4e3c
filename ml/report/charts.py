"""Charts as SVG text: lines and marks take their colours from the page, so that they follow light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A named series; ``css`` is the class that colours it. ``dots`` marks its points."""

    name: str
    points: Sequence[Point]
    css: str
    dots: bool = False


@dataclass(frozen=True)
class Bar:
    """A named value with an optional interval, for `forest` and `bars`."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    css: str = "a"


WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34
ROW = 24


def lines(
    series: Sequence[Line],
    *,
    title: str,
    x_name: str,
    y_name: str,
    x_range: Point | None = None,
    y_range: Point | None = None,
    x_labels: Sequence[str] = (),
) -> str:
    """Lines over two axes with their names; ``x_labels`` stand in place of numbers at whole x."""
    points = [p for line in series for p in line.points]
    x_low, x_high = x_range or _span([x for x, _ in points])
    y_low, y_high = y_range or _span([y for _, y in points])

    def place(x: float, y: float) -> str:
        across = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{down:.1f}"

    parts = []
    for y in _ticks(y_low, y_high):
        x0, y0 = place(x_low, y).split(",")
        parts.append(f'<line class="grid" x1="{x0}" y1="{y0}" x2="{WIDTH - RIGHT}" y2="{y0}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{float(y0) + 4:.1f}" text-anchor="end">{_number(y)}</text>'
        )
    marks = (
        [(i, label) for i, label in enumerate(x_labels) if i % max(1, len(x_labels) // 4) == 0]
        if x_labels
        else [(x, _number(x)) for x in _ticks(x_low, x_high)]
    )
    for x, label in marks:
        across = place(x, y_low).split(",")[0]
        parts.append(
            f'<text class="tick" x="{across}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{escape(label)}</text>'
        )
    parts.append(
        f'<text class="name" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{escape(x_name)}</text>"
    )
    parts.append(
        f'<text class="name" transform="translate(12 {(HEIGHT - BOTTOM + TOP) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_name)}</text>'
    )
    for line in series:
        if line.points:
            listed = " ".join(place(*p) for p in line.points)
            told = f"<title>{escape(line.name)}</title>"
            parts.append(f'<polyline class="line {line.css}" points="{listed}">{told}</polyline>')
        if line.dots:
            for p in line.points:
                x, y = place(*p).split(",")
                parts.append(
                    f'<circle class="dot {line.css}" cx="{x}" cy="{y}" r="3.5"><title>{_told(line, p)}</title></circle>'
                )
    return _svg(title, HEIGHT, parts) + _legend(series)


def forest(groups: Sequence[tuple[str, Sequence[Bar]]], *, title: str, x_name: str) -> str:
    """Groups of intervals below each other around a line at 0: what reaches over it is not proven."""
    known = [v for _, rows in groups for r in rows for v in (r.value, r.low, r.high) if v is not None]
    low, high = _span([*known, 0.0])
    label = 112
    height = TOP + ROW * sum(len(rows) + 1 for _, rows in groups) + BOTTOM

    def across(v: float) -> str:
        return f"{label + (v - low) / (high - low) * (WIDTH - label - RIGHT):.1f}"

    parts = [f'<line class="zero" x1="{across(0)}" y1="{TOP}" x2="{across(0)}" y2="{height - BOTTOM}"/>']
    parts += [
        f'<text class="tick" x="{across(v)}" y="{height - BOTTOM + 15}" text-anchor="middle">{_number(v)}</text>'
        for v in _ticks(low, high)
    ]
    middle = (label + WIDTH - RIGHT) // 2
    parts.append(
        f'<text class="name" x="{middle}" y="{height - 4}" text-anchor="middle">{escape(x_name)}</text>'
    )
    y = TOP - ROW / 2
    for name, rows in groups:
        y += ROW
        parts.append(f'<text class="row group" x="0" y="{y + 4}">{escape(name)}</text>')
        for row in rows:
            y += ROW
            parts.append(
                f'<text class="row" x="{label - 8}" y="{y + 4}" text-anchor="end">{escape(row.name)}</text>'
            )
            if row.low is not None and row.high is not None:
                ends = f'x1="{across(row.low)}" x2="{across(row.high)}"'
                parts.append(f'<line class="whisker {row.css}" {ends} y1="{y}" y2="{y}"/>')
            if row.value is not None:
                told = f"<title>{escape(name)}, {escape(row.name)}: {_number(row.value)}</title>"
                parts.append(
                    f'<circle class="dot {row.css}" cx="{across(row.value)}" cy="{y}" r="4">{told}</circle>'
                )
    return _svg(title, height, parts)


def bars(rows: Sequence[Bar], *, title: str, x_name: str) -> str:
    """Horizontal bars from 0."""
    high = max([r.value or 0.0 for r in rows] + [1e-9])
    label, height = 190, TOP + ROW * len(rows) + BOTTOM
    parts = []
    for i, row in enumerate(rows):
        y = TOP + ROW * i
        length = (row.value or 0.0) / high * (WIDTH - label - RIGHT - 44)
        parts.append(
            f'<text class="row" x="{label - 8}" y="{y + 16}" text-anchor="end">{escape(row.name)}</text>'
        )
        parts.append(
            f'<rect class="bar {row.css}" x="{label}" y="{y + 4}" width="{max(length, 1):.1f}" height="15" rx="2"/>'
        )
        parts.append(
            f'<text class="tick" x="{label + length + 5:.1f}" y="{y + 16}">{_number(row.value or 0.0)}</text>'
        )
    parts.append(f'<text class="name" x="{label}" y="{height - 8}">{escape(x_name)}</text>')
    return _svg(title, height, parts)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
        + "".join(parts)
        + "</svg>"
    )


def _legend(series: Sequence[Line]) -> str:
    items = "".join(f'<span class="key {line.css}">{escape(line.name)}</span>' for line in series)
    return f'<div class="legend">{items}</div>'


def _told(line: Line, p: Point) -> str:
    return escape(f"{line.name}: {_number(p[0])}, {_number(p[1])}")


def _span(values: Sequence[float]) -> Point:
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    room = (high - low) * 0.06
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers in [low, high]."""
    raw = (high - low) / 5
    power = 10.0 ** len(str(int(1 / raw))) if raw < 1 else 1.0
    step = 1 / power
    for factor in (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10_000):
        if factor / power >= raw:
            step = factor / power
            break
    first = int(low / step) if low >= 0 else -int(-low / step)
    return [k * step for k in range(first, first + 12) if low <= k * step <= high]


def _number(v: float) -> str:
    return f"{v:.3g}" if abs(v) < 1000 else f"{v:,.0f}"
