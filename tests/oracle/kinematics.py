"""Kinematics of one observation point (spec §7.6): exact least squares in fractions, by the normal equations."""

from fractions import Fraction

from . import book
from .rules import DEFAULT, SECOND_NS, direction_sign

WINDOWS_MIN = (1, 3, 5, 10, 20)
TICK = Fraction(1, 4)


def mid(states: list[dict], t_ns: int) -> Fraction | None:
    """The mid in points of the last valid state as of t; None when there is none, a side is empty, or it is more
    than 60 s old."""
    state = book.last_valid_state_before(states, t_ns)
    if state is None or not state["bids"] or not state["asks"] or t_ns - state["ts"] > 60 * SECOND_NS:
        return None
    return (max(state["bids"]) + min(state["asks"])) * TICK / 2


def coefficients(xs: list[int], ys: list[Fraction], degree: int) -> list[Fraction]:
    """Coefficients c_0 .. c_degree of the polynomial with the least sum of squared errors, exactly."""
    n = degree + 1
    moments = [Fraction(sum(x**k for x in xs)) for k in range(2 * degree + 1)]
    rows = [
        [*(moments[i + j] for j in range(n)), sum(x**i * y for x, y in zip(xs, ys, strict=True))]
        for i in range(n)
    ]
    for i in range(n):  # a positive definite matrix: no pivot is 0
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(n):
            if j != i:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [row[n] for row in rows]


def slope(xs: list[int], ys: list[Fraction]) -> Fraction:
    return coefficients(xs, ys, 1)[1]


def kinematics_row(session_book: dict, point: dict, p: dict = DEFAULT) -> dict:
    """§7.6: every column of the group. `session_book` is `book.whole` of the session's records."""
    asof = point["asof_ns"]
    s = direction_sign(point["direction"])
    level = point["level_tick"] * TICK
    ys: list[Fraction] = []  # y_0, y_1, .. up to the first missing one
    for j in range(60 * max(WINDOWS_MIN)):
        value = mid(session_book["states"], asof - j * SECOND_NS)
        if value is None:
            break
        ys.append(s * (value - level))

    row = {}
    for minutes in WINDOWS_MIN:
        w = 60 * minutes
        names = [f"velocity_{minutes}min", f"acceleration_{minutes}min", f"jerk_{minutes}min"]
        if minutes > 1:
            names.append(f"momentum_trend_{minutes}min")
        if len(ys) < w:
            row |= dict.fromkeys(names)
            continue
        xs, y = [-j for j in range(w)], ys[:w]
        half = w // 2
        values = [
            coefficients(xs, y, 1)[1],
            2 * coefficients(xs, y, 2)[2],
            6 * coefficients(xs, y, 3)[3],
            slope(xs[:half], y[:half]) - slope(xs[half:], y[half:]),
        ]
        row |= {name: float(value) for name, value in zip(names, values, strict=False)}
    return row
