"""Gaps and quality of a delivery, against plain Python and against days whose faults are known."""

import datetime
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from ingest import record_quality
from ingest.dbn import ingest
from ingest.record_quality import RecordQuality
from lake.bronze import visible_files
from lake.rollup import write_rollups
from tests.unit.ingest import dbn_kit as kit
from tests.unit.ingest.dbn_kit import DAY, DAY_NS, HOUR_NS, IDS, write_dbn

SECOND_NS = 10**9
CONTRACTS = ["ESZ5", "ESH6", "ESZ5-ESH6", "NQZ5"]
RTH_OPEN_NS, RTH_CLOSE_NS = DAY_NS + 52_200 * SECOND_NS, DAY_NS + 21 * HOUR_NS  # 14:30 to 21:00 UTC
UNDEF = kit.UNDEF_PRICE


def a_day(schema: str = "mbp-10", n: int = 1000, seed: int = 1) -> np.ndarray:
    """Records evenly from 14:00 to 22:00 UTC, so that they span regular hours, numbered densely."""
    rows = kit.records(schema, n, seed=seed)
    rows["ts_event"] = DAY_NS + 14 * HOUR_NS + np.arange(n) * (8 * HOUR_NS // n)
    rows["ts_recv"] = rows["ts_event"] + 1000
    rows["sequence"] = 10 + np.arange(n)
    rows["flags"] = 128
    return rows


def judged(rows: np.ndarray, codes: np.ndarray | None = None, *, block: int = 97) -> RecordQuality:
    quality = RecordQuality(CONTRACTS, is_book="bid_px_00" in rows.dtype.names)
    codes = np.zeros(len(rows), dtype=np.int32) if codes is None else codes.astype(np.int32)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        times = part["ts_event"]
        quality.add(part, codes[start : start + block], int(times.min()), int(times.max()))
    return quality


def values(quality: RecordQuality, key: str = "ES", date: str = "2025-12-15", scale: float = 1.0) -> dict:
    return {
        c["check"]: (c["value"], c["verdict"])
        for c in quality.checks(scale)[date]
        if c["key"] == {"symbol": key}
    }


def test_a_quiet_day_has_no_gaps_and_its_counts() -> None:
    quality = judged(a_day())
    assert quality.gaps() == {}
    found = values(quality, scale=0.0001)
    assert found["rows"] == (1000, "ok")
    assert found["sequence_dense_share"] == (1.0, "ok")
    assert found["sequence_holes"] == (0, "ok")
    assert found["f_last_share"] == (1.0, "ok")
    assert found["crossed_share"] == (0.0, "ok")
    assert found["silence_s"] == (0.0, "ok")
    assert {verdict for _, verdict in found.values()} == {"ok"}


@pytest.mark.parametrize("block", [1, 7, 97, 8192])
def test_holes_in_a_dense_numbering_are_gaps(block: int) -> None:
    rows = a_day()
    rows["sequence"][500:] += 3
    rows["sequence"][700:] += 1
    quality = judged(rows, block=block)
    assert quality.gaps() == {
        "2025-12-15": [
            {
                "key": {"symbol": "ES"},
                "contract": "ESZ5",
                "from_ns": int(rows["ts_event"][at - 1]),
                "to_ns": int(rows["ts_event"][at]),
                "reason": "sequence",
            }
            for at in (500, 700)
        ]
    }
    assert values(quality)["sequence_holes"] == (2, "warn")


def test_a_numbering_that_counts_other_things_too_has_no_holes() -> None:
    rows = a_day()
    rows["sequence"] = 10 + np.cumsum(np.random.default_rng(1).integers(0, 9, len(rows)))
    quality = judged(rows)
    assert quality.gaps() == {}
    found = values(quality)
    assert found["sequence_dense_share"][0] < 0.2
    assert found["sequence_holes"] == (0, "ok")


def test_records_of_one_event_share_a_number_and_numberings_are_of_contracts() -> None:
    rows = a_day(n=3000)
    codes = np.arange(len(rows)) % 3
    for code in range(3):
        mine = np.flatnonzero(codes == code)
        rows["sequence"][mine] = 100 * code + np.arange(len(mine)) // 2
    assert judged(rows, codes).gaps() == {}
    assert values(judged(rows, codes))["sequence_dense_share"] == (1.0, "ok")


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [
        (20_000, 20_061, (20_000, 20_061, "warn")),
        (20_000, 20_060, None),  # not longer than 60 s
        (20_000, 23_000, (20_000, 23_000, "error")),
        (-900, 100, (0, 100, "warn")),  # from before the open: only what lies in regular hours counts
        (-900, 60, None),
        (23_300, 24_000, (23_300, 23_400, "warn")),  # over the close, 6 h 30 min after the open
        (-1500, -100, None),
    ],
)
def test_silence_of_the_book_in_regular_hours_is_a_gap(
    start_s: int, end_s: int, expected: tuple[int, int, str] | None
) -> None:
    """Times are seconds after the open."""
    rows = a_day(n=8 * 3600)
    start_ns, end_ns = RTH_OPEN_NS + start_s * SECOND_NS, RTH_OPEN_NS + end_s * SECOND_NS
    rows = rows[(rows["ts_event"] <= start_ns) | (rows["ts_event"] >= end_ns)]
    quality = judged(rows, block=4000)
    gaps = [g for g in quality.gaps().get("2025-12-15", []) if g["reason"] == "silence"]
    if expected is None:
        assert gaps == []
        return
    from_s, to_s, verdict = expected
    assert [(g["from_ns"], g["to_ns"], g["contract"]) for g in gaps] == [
        (RTH_OPEN_NS + from_s * SECOND_NS, RTH_OPEN_NS + to_s * SECOND_NS, "ESZ5")
    ]
    assert values(quality)["silence_s"] == (to_s - from_s, verdict)


def test_the_quiet_of_contracts_that_hardly_trade_is_no_gap() -> None:
    rows = a_day(n=8 * 3600)
    codes = np.zeros(len(rows))
    codes[::600], codes[1::600] = 1, 2
    assert {g["reason"] for g in judged(rows, codes).gaps().get("2025-12-15", [])} <= {"sequence"}


def test_a_thinned_book_is_silent_later() -> None:
    rows = a_day(n=8 * 3600)
    rows = rows[(rows["ts_event"] < RTH_OPEN_NS) | (rows["ts_event"] >= RTH_OPEN_NS + 3600 * SECOND_NS)]
    quality = judged(rows, block=5000)
    reasons = [[g["reason"] for g in quality.gaps(scale)["2025-12-15"]] for scale in (1.0, 0.02, 0.01)]
    assert [r.count("silence") for r in reasons] == [1, 1, 0]
    assert [values(quality, scale=scale)["silence_s"][1] for scale in (1.0, 0.02, 0.01)] == [
        "error",
        "warn",
        "ok",
    ]


def test_silence_of_a_part_of_a_day_is_a_warning() -> None:
    rows = a_day(n=8 * 3600)
    rows = rows[
        (rows["ts_event"] < RTH_OPEN_NS + 3600 * SECOND_NS)
        | (rows["ts_event"] > RTH_OPEN_NS + 7200 * SECOND_NS)
    ]
    rows = rows[rows["ts_event"] > RTH_OPEN_NS + 60 * SECOND_NS]  # begins after the open
    found = values(judged(rows, block=5000))
    assert found["silence_s"][1] == "warn"
    assert found["partial_day"][1] == "warn"
    assert "rows" not in found


@pytest.mark.parametrize("block", [1, 3, 97])
def test_spans_that_the_vendor_doubts_are_gaps(block: int) -> None:
    rows = a_day()
    codes = np.zeros(len(rows), dtype=np.int32)
    codes[101:110] = 1  # another contract in between changes nothing
    rows["flags"][100:120], rows["flags"][995:] = 128 | 4, 4
    rows["flags"][101:110] = 128
    gaps = [
        g for g in judged(rows, codes, block=block).gaps()["2025-12-15"] if g["reason"] == "maybe_bad_book"
    ]
    times = rows["ts_event"].astype(int)
    assert [(g["contract"], g["from_ns"], g["to_ns"]) for g in gaps] == [
        ("ESZ5", times[100], times[120]),
        ("ESZ5", times[995], times[999]),
    ]


def test_gaps_of_a_kind_are_bounded_and_their_number_is_told() -> None:
    rows = a_day(n=400_000)
    rows["sequence"] = 10 + np.cumsum(1 + (np.arange(len(rows)) % 200 == 0))
    quality = judged(rows, block=8192)
    assert len(quality.gaps()["2025-12-15"]) == record_quality.MAX_GAPS
    assert values(quality)["sequence_holes"] == (len(rows) // 200 - 1, "warn")


@pytest.mark.parametrize("seed", range(6))
def test_the_checks_equal_plain_python(seed: int) -> None:
    """Every count, on records full of faults, over two dates and several contracts, in any blocks."""
    rng = np.random.default_rng(seed)
    rows = a_day(n=3000, seed=seed)
    rows["ts_event"] += rng.integers(0, 1 + 12 * HOUR_NS * (seed % 2), len(rows)).astype(np.uint64)
    rows["side"] = rng.choice([b"A", b"B", b"B", b"N"], len(rows))
    rows["flags"] = rng.choice([0, 128, 128, 132, 4], len(rows))
    rows["price"] += rng.choice([0, 0, 0, 0, 1, 10**13, -(10**13)], len(rows))
    rows["price"][rng.random(len(rows)) < 0.05] = UNDEF
    for k in range(10):
        for side in ("bid", "ask"):
            rows[f"{side}_px_{k:02d}"] += rng.choice([0] * 40 + [2 * 10**9, -2 * 10**9], len(rows))
            rows[f"{side}_px_{k:02d}"][rng.random(len(rows)) < 0.02] = UNDEF
    codes = rng.integers(0, 4, len(rows))
    quality = judged(rows, codes, block=int(rng.integers(1, 400)))
    for date, checks in quality.checks().items():
        day = (datetime.date.fromisoformat(date) - datetime.date(1970, 1, 1)).days
        for root in {c["key"]["symbol"] for c in checks}:
            found = {c["check"]: c["value"] for c in checks if c["key"]["symbol"] == root}
            mine = [
                (row, CONTRACTS[c]) for row, c in zip(rows, codes, strict=True)
                if int(row["ts_event"]) // (24 * HOUR_NS) == day and ("NQ" if CONTRACTS[c] == "NQZ5" else "ES") == root
            ]  # fmt: skip
            for check, value in expected_shares(mine, day).items():
                assert found.get(check, 0) == value, (date, root, check)


def expected_shares(mine: list, day: int) -> dict[str, float]:
    out_of_range = off_tick = buys = sells = last = sided = crossed = unordered = 0
    rth = (RTH_OPEN_NS, RTH_CLOSE_NS) if day == DAY_NS // (24 * HOUR_NS) else None
    if rth is None:  # the Tuesday after
        rth = (RTH_OPEN_NS + 24 * HOUR_NS, RTH_CLOSE_NS + 24 * HOUR_NS)
    for row, contract in mine:
        if contract in ("ESZ5", "ESH6") and row["price"] != UNDEF:
            out_of_range += not 3000 * 10**9 <= row["price"] <= 10_000 * 10**9
            off_tick += int(row["price"]) % 250_000_000 != 0
        buys += row["action"] == b"T" and row["side"] == b"B"
        sells += row["action"] == b"T" and row["side"] == b"A"
        bids = [int(row[f"bid_px_{k:02d}"]) for k in range(10)]
        asks = [int(row[f"ask_px_{k:02d}"]) for k in range(10)]
        unordered += any(b != UNDEF and a <= b for a, b in itertools.pairwise(bids)) or any(
            b != UNDEF and a >= b for a, b in itertools.pairwise(asks)
        )
        if row["flags"] & 128:
            last += 1
            if rth[0] <= row["ts_event"] < rth[1] and UNDEF not in (bids[0], asks[0]):
                sided += 1
                crossed += asks[0] <= bids[0]
    shares = {
        "price_out_of_range": out_of_range,
        "price_off_tick": off_tick,
        "f_last_share": last / len(mine),
        "unordered_levels_share": unordered / len(mine),
    }
    if buys + sells:
        shares["buy_share"] = buys / (buys + sells)
    if sided:
        shares["crossed_share"] = crossed / sided
    return shares


@pytest.mark.parametrize(
    ("rows", "scale", "verdict"),
    [(1000, 0.0001, "ok"), (1000, 0.002, "error"), (1000, 0.0003, "warn"), (1000, 1e-5, "error")],
)
def test_the_number_of_rows_is_judged_by_the_scale(rows: int, scale: float, verdict: str) -> None:
    assert values(judged(a_day(n=rows)), scale=scale)["rows"] == (rows, verdict)


def test_contracts_that_are_learnt_on_the_way_are_judged_too() -> None:
    contracts = ["ESZ5"]
    quality = RecordQuality(contracts, is_book=True)
    rows = a_day(n=100)
    low, high = int(rows["ts_event"].min()), int(rows["ts_event"].max())
    quality.add(rows, np.zeros(100, dtype=np.int32), low, high)
    contracts.append("NQZ5")
    quality.add(rows, np.ones(100, dtype=np.int32), low, high)
    assert [c["value"] for c in quality.checks()["2025-12-15"] if c["check"] == "f_last_share"] == [1.0, 1.0]


def test_commits_and_the_manifest_say_it_and_errors_leave_a_date_open(tmp_path: Path, root: Path) -> None:
    good, bad = a_day("trades", seed=1), a_day("trades", seed=2)
    good["sequence"][500:] += 1
    bad["price"][3] += 1
    mappings = {s: [(DAY, DAY + datetime.timedelta(days=1), i)] for s, i in IDS.items()}
    for name, rows in (("good", good), ("bad", bad)):
        write_dbn(tmp_path / f"{name}.dbn", "trades", rows, head=kit.metadata("trades", mappings=mappings))
    (root / "raw").mkdir()
    assert ingest(root, [tmp_path / "good.dbn", tmp_path / "bad.dbn"]).ok
    write_rollups(root)
    manifest = json.loads((root / "lake" / "bronze" / "manifest.json").read_text())
    assert [(g["schema"], g["date"], g["contract"], g["reason"]) for g in manifest["gaps"]] == [
        ("futures.trades.v1", "2025-12-15", "ESZ5", "sequence")
    ]
    verdicts = {(q["check"], q["value"], q["verdict"]) for q in manifest["quality"]}
    assert ("price_off_tick", 1, "error") in verdicts
    assert ("price_off_tick", 0, "ok") in verdicts
    assert ("rows", 1000, "error") in verdicts  # a real day has more
    assert {f.state.split('"')[1] for f in visible_files(root)} == {"open"}
