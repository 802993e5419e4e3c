"""Neighbours, filters and caps equal the text of the specification, and an index knows no later session."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from ml.datasets import DatasetError, LeakError
from ml.retrieval import Index, Scaling
from tests.oracle import retrieval as oracle

NAMES = ["a", "b", "c", "constant", "empty"]
DAY = datetime.date(2025, 11, 3)
AFTER = "2027-01-01"


def events(rng: np.random.Generator, count: int, sessions: int, *, coarse: bool = False) -> list[dict]:
    """Random rows; ``coarse`` draws features from few values, so that many distances are equal."""

    def number() -> float:
        return float(rng.integers(0, 3)) if coarse else float(rng.normal())

    return [
        {
            "event_id": f"e{rng.integers(2**40)}",
            "session_date": DAY + datetime.timedelta(int(rng.integers(sessions))),
            "stage": str(rng.choice(["touch", "confirm_240"])),
            "direction": str(rng.choice(["UP", "DOWN"])),
            "level_kind_name": str(rng.choice(["ROUND", "VWAP", "PM_HIGH"], p=[0.8, 0.15, 0.05])),
            "gamma_bucket": [None, "LONG_GAMMA", "SHORT_GAMMA"][int(rng.integers(3))],
            "attempt_cluster_id": int(rng.integers(6)),
            "outcome": str(rng.choice(["BREAK", "BOUNCE", "CHOP"])),
            "strength_signed": float(rng.normal()),
            "a": None if rng.random() < 0.2 else number(),
            "b": number(),
            "c": number() * 100,
            "constant": 4.0,
            "empty": None,
        }
        for _ in range(count)
    ]


def table(rows: list[dict]) -> pa.Table:
    schema = pa.Table.from_pylist(rows).schema
    at = schema.get_field_index("empty")
    return pa.Table.from_pylist(rows, schema=schema.set(at, pa.field("empty", pa.float64())))


def ask(index: Index, event: dict, k: int = 20):
    values = [np.nan if event[n] is None else event[n] for n in index.scaling.columns]
    return index.query(values, event, AFTER, k)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize(("count", "sessions"), [(8, 3), (60, 30), (400, 40), (3000, 200)])
def test_neighbours_are_those_of_the_text(count: int, sessions: int, coarse: bool) -> None:
    rng = np.random.default_rng(count + coarse)
    rows = events(rng, count, sessions, coarse=coarse)
    index = Index.build(table(rows), NAMES)
    for event in events(rng, 15, 1, coarse=coarse):
        found, expected = ask(index, event), oracle.query(rows, NAMES, event)
        assert (found is None) == (expected is None)
        if found is None:
            continue
        assert found.dropped == expected["dropped"]
        assert found.similarity == pytest.approx(expected["similarity"], rel=1e-9)
        assert found.events == [rows[i]["event_id"] for i in found.rows]
        if not coarse:  # what is equal in one may differ by an ulp in the other, and the order with it
            assert found.rows.tolist() == expected["rows"]
            assert found.p == pytest.approx(expected["p"], rel=1e-9)
            for name in ("strength", "entropy", "effective_n"):
                assert getattr(found, name) == pytest.approx(expected[name], rel=1e-9, abs=1e-12)


def test_filters_go_one_by_one_as_rows_get_fewer() -> None:
    dropped = set()
    for count in (20, 60, 150, 400, 1500):
        rng = np.random.default_rng(count)
        index = Index.build(table(events(rng, count, 40)), NAMES)
        found = [ask(index, event) for event in events(rng, 20, 1)]
        dropped |= {f.dropped for f in found if f}
    order = ("direction", "level_kind_name", "gamma_bucket")
    assert dropped == {order[i:] for i in range(4)}


def test_equal_distances_go_to_the_earlier_row() -> None:
    rng = np.random.default_rng(3)
    rows = events(rng, 200, 200)
    for number, row in enumerate(rows):
        row |= {"a": 1.0, "b": float(number % 2), "c": 0.0, "stage": "touch", "direction": "UP"}
        row |= {"level_kind_name": "ROUND", "gamma_bucket": None, "attempt_cluster_id": number}
        row["session_date"] = DAY + datetime.timedelta(number)
    found = ask(Index.build(table(rows), NAMES), rows[0])
    assert found.rows.tolist() == list(range(0, 40, 2))
    assert found.distances.tolist() == [0.0] * 20


def test_a_cap_reaches_past_the_first_candidates() -> None:
    """All of the nearest thousand are of one session, so only two of them count."""
    rng = np.random.default_rng(4)
    rows = events(rng, 3000, 100)
    for number, row in enumerate(rows):
        near = number < 1000
        row |= {"stage": "touch", "direction": "UP", "level_kind_name": "ROUND", "gamma_bucket": None}
        row |= {"session_date": DAY if near else row["session_date"], "attempt_cluster_id": number}
        row |= {"a": 0.0, "b": rng.normal() * (0.001 if near else 1.0), "c": 0.0 if near else 5.0}
    event = dict(rows[0])
    found, expected = ask(Index.build(table(rows), NAMES), event), oracle.query(rows, NAMES, event)
    assert found.rows.tolist() == expected["rows"]
    assert sum(number < 1000 for number in found.rows) == 2


def test_a_stored_index_answers_the_same() -> None:
    rng = np.random.default_rng(5)
    rows = events(rng, 300, 40)
    index = Index.build(table(rows), NAMES)
    stored = index.state()
    assert all(type(v) in (list, dict, np.ndarray) for v in stored.values())
    again = Index.from_state(stored)
    event = events(rng, 1, 1)[0]
    one, two = ask(index, event), ask(again, event)
    assert one.rows.tolist() == two.rows.tolist()
    assert one.p == two.p


def test_a_session_of_the_index_is_refused() -> None:
    rows = events(np.random.default_rng(6), 50, 10)
    index = Index.build(table(rows), NAMES)
    last = max(r["session_date"] for r in rows).isoformat()
    with pytest.raises(LeakError, match=f"index up to {last}"):
        index.query([0.0] * 3, rows[0], last)


def test_nothing_to_index_is_refused() -> None:
    with pytest.raises(DatasetError, match="no row to index"):
        Index.build(table(events(np.random.default_rng(7), 1, 1)).slice(1), NAMES)


def test_columns_that_never_vary_are_dropped() -> None:
    values = np.array([[1.0, 2.0, np.nan], [np.nan, 2.0, np.nan], [3.0, 2.0, np.nan]])
    scaling = Scaling.fit(["x", "y", "z"], values)
    assert scaling.columns == ("x",)
    assert scaling.medians.tolist() == [2.0]
    assert scaling.apply(np.array([[np.nan]])).tolist() == [[0.0]]
