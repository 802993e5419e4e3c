"""Killed at any instant, or run beside itself, a load ends as one that nobody disturbed."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from ingest.binance.load import ingest_files
from ingest.binance.report import Options
from lake.windows import read_markers
from tests.fixtures.processes import fork
from tests.unit.ingest_binance.kit import DAY, agg_csv, put, zipped
from tests.unit.ingest_binance.test_load import landed, receipts

NAME = f"BTCUSDC-aggTrades-{DAY}"
KILLS = [pytest.param(8, id="sample"), pytest.param(60, marks=pytest.mark.long, id="full")]


def load(root: Path, path: Path) -> bool:
    return ingest_files(root, "agg_trades", [str(path)], Options(max_bad=0.1)).exit_code in (0, 2)


def state(root: Path) -> tuple:
    """What a reader sees, but for times and runs."""
    told = ("loaded_at", "run_id")
    return (
        [(m.window_start, m.rows, m.reject_rows, m.content_hash) for m in read_markers(root, "agg_trades")],
        landed(root, "agg_trades", "agg_id, row_hash"),
        [{k: v for k, v in receipt.items() if k not in told} for receipt in receipts(root)],
        sorted(p.relative_to(root).as_posix() for p in (root / "raw").rglob("*") if p.is_file()),
        sorted(p.name for p in (root / "lake" / "_stage").iterdir() if p.suffix != ".lock"),
        sorted(p.name for p in (root / "lake" / "bronze" / "_rejects").rglob("*.parquet")),
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = agg_csv(6_000).replace(b",6000000014,", b",,")
    return put(tmp_path_factory.mktemp("source"), f"{NAME}.zip", zipped(f"{NAME}.csv", data))


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple, float]:
    """The state of a lake that nobody killed, and how long its load took in seconds."""
    root = tmp_path_factory.mktemp("undisturbed")
    assert load(tmp_path_factory.mktemp("warm"), source)
    started = time.monotonic()
    assert fork(lambda: load(root, source)).wait() == 0
    return state(root), time.monotonic() - started


@pytest.mark.parametrize("kills", KILLS)
def test_a_load_that_was_killed_is_made_good_by_the_next(source, undisturbed, tmp_path, kills):
    expected, duration_s = undisturbed
    rng = np.random.default_rng(11)
    killed = 0
    for number in range(kills):
        root = tmp_path / f"lake{number}"
        root.mkdir()
        child = fork(lambda root=root: load(root, source))
        time.sleep(float(rng.uniform(0, 1.1 * duration_s)))
        killed += child.kill() < 0
        assert load(root, source)
        assert state(root) == expected
    assert killed > 0


def test_two_loads_of_one_file_at_once_land_it_once(source, undisturbed, tmp_path):
    root = tmp_path / "lake"
    root.mkdir()
    children = [fork(lambda: load(root, source)) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert state(root) == undisturbed[0]


def test_two_files_at_once_both_land(source, tmp_path):
    root = tmp_path / "lake"
    root.mkdir()
    other = put(tmp_path, f"ETHUSDC-aggTrades-{DAY}.csv", agg_csv(3_000))
    children = [fork(lambda path=path: load(root, path)) for path in (source, other)]
    assert [child.wait() for child in children] == [0, 0]
    assert len(landed(root, "agg_trades")) == 5_999 + 3_000
