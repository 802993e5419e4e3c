"""Dealer gamma near a level: which strikes are near, edges of the windows, and what nothing means."""

import math

import pyarrow as pa
import pytest

from physics.fuel import FLOWS, FLOWS_SCHEMA, gamma_flows
from physics.units import MINUTE_NS, SECOND_NS

START = 1_765_893_600_000_000_000
ASOF = START + 30 * MINUTE_NS
LEVEL = 24_000  # 6000 points, $600 at a ratio of 10


def table(*prints) -> pa.Table:
    """Prints of (time, strike in thousandths, dealer gamma)."""
    ts, strike, gamma = zip(*prints, strict=True) if prints else ((), (), ())
    return pa.table(
        {
            "ts_event_ns": pa.array(ts, pa.int64()),
            "strike_milli": pa.array(strike, pa.int32()),
            "dealer_gamma": pa.array(gamma, pa.float64()),
        }
    )


def flows(prints: pa.Table, *points, W_g: float = 60, FUEL_STRIKE_RANGE: float = 2.0) -> list[dict]:
    points = points or ((ASOF, LEVEL, 10.0),)
    given = pa.table(
        {
            "observation_id": [f"point {i}" for i in range(len(points))],
            "asof_ns": pa.array([p[0] for p in points], pa.int64()),
            "level_tick": pa.array([p[1] for p in points], pa.int32()),
            "es_spy_ratio": pa.array([p[2] for p in points], pa.float64()),
        }
    )
    found = gamma_flows(given, prints, session_start_ns=START, W_g=W_g, FUEL_STRIKE_RANGE=FUEL_STRIKE_RANGE)
    assert found.schema == FLOWS_SCHEMA
    return found.to_pylist()


def ago(seconds: float, gamma: float = 1.0, strike: int = 600_000) -> tuple:
    return ASOF - round(seconds * SECOND_NS), strike, gamma


def test_windows_are_half_open():
    """Powers of two, so that a sum names its prints: each lies exactly on an edge, or one ns beside it."""
    edges = [1800, 1200, 360, 300, 180, 120, 60, 0]  # s before asof; the first is the session start
    prints = [
        (ASOF - s * SECOND_NS + d, 600_000, 2.0**i)
        for i, (s, d) in enumerate((s, d) for s in edges for d in (-1, 0))
    ]
    row = flows(table(*prints), W_g=300)[0]

    def between(first: int, last: int) -> float:
        """Prints of [asof − first, asof − last): from the one on the first edge to the one a ns before the last."""
        return sum(2.0**i for i in range(2 * edges.index(first) + 1, 2 * edges.index(last) + 1))

    assert {name: row[name] for name in FLOWS} == {
        "flow_session": between(1800, 0),
        "flow_wg": between(300, 0),
        "flow_1m": between(60, 0),
        "flow_1m_before": between(120, 60),
        "flow_3m": between(180, 0),
        "flow_3m_before": between(360, 180),
        "flow_5m": between(300, 0),
        "flow_20m": between(1200, 0),
    }
    assert row["option_prints"] == 14
    assert row["flows_max_input_ts_ns"] == ASOF - 1


def test_a_strike_is_near_up_to_and_with_the_range():
    prints = [ago(9, 2.0**i, 600_000 + d) for i, d in enumerate((-2001, -2000, -1, 0, 1999, 2000, 2001))]
    assert flows(table(*prints))[0]["flow_session"] == 2.0 + 4 + 8 + 16 + 32
    assert flows(table(*prints), FUEL_STRIKE_RANGE=0.001)[0]["flow_session"] == 4.0 + 8
    # 1000 × 1.001 is a little less than 1001 in doubles
    prints = [ago(9, 1.0, 601_001), ago(9, 2.0, 601_002)]
    assert flows(table(*prints), FUEL_STRIKE_RANGE=1.001)[0]["flow_session"] == 1.0


def test_the_level_is_mapped_by_the_ratio_of_the_point():
    """6000 points are $600 at 10, and $594.059 at 10.1: half a thousandth goes up."""
    prints = table(ago(9, 1.0, 596_059), ago(9, 2.0, 596_060), ago(9, 4.0, 602_000))
    found = flows(prints, (ASOF, LEVEL, 10.0), (ASOF, LEVEL, 10.1))
    assert [row["flow_session"] for row in found] == [4.0, 1.0]
    # 25 points over 16 are 1562.5 thousandths
    assert flows(table(ago(9, 1.0, 3_563)), (ASOF, 100, 16.0))[0]["flow_session"] == 1.0


def test_nothing_yet_is_not_nothing_near():
    before, at_asof = (START - 1, 600_000, 5.0), (ASOF, 600_000, 5.0)
    row = flows(table(before, at_asof))[0]
    assert [row[name] for name in FLOWS] == [None] * len(FLOWS)
    assert (row["option_prints"], row["flows_max_input_ts_ns"]) == (0, None)
    for print_ in (ago(1800, 5.0, 650_000), ago(1800, None)):  # far away, or of nobody: it is a print
        row = flows(table(before, print_, at_asof))[0]
        assert [row[name] for name in FLOWS] == [0.0] * len(FLOWS)
        assert (row["option_prints"], row["flows_max_input_ts_ns"]) == (1, START)
    assert flows(table())[0]["option_prints"] == 0


def test_a_window_may_begin_before_the_session():
    asof = START + 10 * MINUTE_NS
    row = flows(table((START - MINUTE_NS, 600_000, 1.0), (START, 600_000, 2.0)), (asof, LEVEL, 10.0))[0]
    assert (row["flow_session"], row["flow_20m"], row["flow_5m"]) == (2.0, 3.0, 0.0)


def test_points_keep_their_order_and_sums_are_true():
    prints = table(ago(1700, 1e12), ago(1000, 0.1), ago(900, 0.2), ago(800, 0.3, 601_000), ago(700, -1e12))
    early, late = (ASOF - 750 * SECOND_NS, LEVEL, 10.0), (ASOF, LEVEL, 10.0)
    found = flows(prints, late, early)
    assert [row["observation_id"] for row in found] == ["point 0", "point 1"]
    assert found[0]["flow_session"] == math.fsum((0.1, 0.2, 0.3))
    assert found[1]["flow_20m"] == math.fsum((1e12, 0.1, 0.2, 0.3))
    assert found[1]["option_prints"] == 4


@pytest.mark.parametrize(
    ("prints", "point", "changed", "told"),
    [
        (table(ago(1), ago(2)), (ASOF, LEVEL, 10.0), {}, "expected non-decreasing keys"),
        (table(), (ASOF + 1, LEVEL, 10.0), {}, "expected a multiple of grid_ms = 100 ms"),
        (table(), (ASOF, LEVEL, 10.0), {"W_g": 0.25}, "W_g was 0.25 s, expected a positive multiple"),
    ],
)
def test_what_cannot_be_meant_is_refused(prints, point, changed, told):
    with pytest.raises(ValueError, match=told):
        flows(prints, point, **changed)
