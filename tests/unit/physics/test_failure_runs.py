"""Which event a run of failures is told of, by hand."""

import pyarrow as pa

from physics.failure_runs import HOUR_US, failure_runs

MINUTE_US = 60_000_000


def terminals(*rows: tuple[int, bool, int | None]) -> pa.Table:
    """Events of one client and symbol, as (minute, is_failure, event_seq), known as they occur."""
    times = pa.array([minute * MINUTE_US for minute, _, _ in rows], pa.int64())
    return pa.table(
        {
            "client_id": pa.array([1] * len(rows), pa.int64()),
            "symbol": ["BTCUSDC"] * len(rows),
            "occurred_us": times,
            "available_us": times,
            "unusable_from_us": pa.nulls(len(rows), pa.int64()),
            "is_failure": [failed for _, failed, _ in rows],
            "event_seq": pa.array([seq for _, _, seq in rows], pa.int64()),
        }
    )


def found(table: pa.Table) -> list[tuple[int, int, int | None]]:
    """(minute, run, highest number) of each row."""
    rows = failure_runs(table)
    minutes = [t // MINUTE_US for t in rows["known_at"].cast(pa.int64()).to_pylist()]
    return [
        *zip(
            minutes,
            rows["consecutive_failures_1h"].to_pylist(),
            rows["max_event_seq"].to_pylist(),
            strict=True,
        )
    ]


def test_a_run_counts_from_the_last_success_of_the_hour():
    hour = HOUR_US // MINUTE_US
    assert found(terminals((0, True, 7), (1, False, 8), (2, True, 9))) == [
        (0, 1, 7), (1, 0, 8), (2, 1, 9), (2 + hour, 0, None),
    ]  # fmt: skip


def test_a_number_of_zero_is_a_number_and_none_is_none():
    assert found(terminals((0, True, 0)))[0] == (0, 1, 0)
    assert found(terminals((0, True, None)))[0] == (0, 1, None)


def test_nothing_gives_no_row():
    assert found(terminals()) == []
