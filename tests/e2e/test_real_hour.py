"""One real hour of E-mini book events, all the way from the vendor's files to training rows.

The files hold an overnight hour: UTC 2023-12-25 from 23:00 less a crossed pre-open, session 2023-12-26. The hour
rises away from its lows, so that session extremes are levels and are rightly not touched.
"""

import math
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from ingest.dbn import ingest
from lake import contracts, datasets, params
from lake.bronze import visible_files
from lake.commits import read_partitions
from tests.conftest import PROJECT_DIR
from tests.e2e.market import calendar
from tests.e2e.support import (
    OVERNIGHT,
    OracleDay,
    assert_day_equals_oracle,
    of_lake,
    rows,
    run_dbt,
    silver,
)
from tests.oracle import real_hour
from tests.oracle.barrier import median, wall_samples
from tests.oracle.rules import SECOND_NS, trades_within

pytestmark = pytest.mark.realdata

DATE = "2023-12-26"
SET = params.load("overnight")
VERSION = "silver/features/v1.0_mechanics_only"
GOLD = "gold/training/candidates/v1.0_mechanics_only"


@pytest.fixture(scope="module")
def files(realdata: Path) -> list[Path]:
    folder = realdata / "databento" / "es_20231225"
    return [next(folder.glob(f"*.{schema}.dbn.zst")) for schema in ("trades", "mbp-10")]


@pytest.fixture(scope="module")
def lake(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("real_hour")
    report = ingest(root, files)
    assert report.ok, [f.line() for f in report.files]
    run_dbt(root, "build", param_set="overnight")
    return root


@pytest.fixture(scope="module")
def oracle(realdata: Path) -> OracleDay:
    folder = realdata / "databento" / "es_20231225"
    session = calendar()[DATE]
    records = [r for r in real_hour.load_records(folder) if r["ts_event_ns"] >= session["globex_open_ns"]]
    return OracleDay(session, "ESH4", real_hour.load_trades(folder), records, (), OVERNIGHT)


def feature_columns_of(version: str) -> dict[str, dict]:
    """Meta of a version's feature columns, by name, in order."""
    path = PROJECT_DIR / "models" / "silver" / "market" / "sets" / "touch_features.yml"
    (model,) = yaml.safe_load(path.read_text())["models"]
    (found,) = [v for v in contracts.of_versions(model) if v["v"] == version]
    metas = {c["name"]: c["config"]["meta"] for c in found["columns"]}
    return {name: meta for name, meta in metas.items() if meta["role"] == "feature"}


@pytest.fixture(scope="module")
def feature_columns() -> dict[str, dict]:
    return feature_columns_of("1_0")


def test_bronze_is_what_the_vendors_reader_says(lake: Path, files: list[Path]):
    """Counts, first and last record, and exact sums of every price, size and count."""
    from databento import DBNStore  # noqa: PLC0415 (slow to import)

    for file, name, count in zip(files, ("futures_trades", "futures_mbp10"), (2_271, 31_392), strict=True):
        theirs = DBNStore.from_file(file).to_ndarray()
        ours = bronze_rows(lake, name)
        assert ours.num_rows == len(theirs) == count
        # bronze is in event order, the file in order of receipt: their own row numbers bring them together
        assert sorted(ours["ordinal"].to_pylist()) == list(range(count))
        by_file = ours.sort_by("ordinal")
        for column, field in (
            ("ts_event_ns", "ts_event"),
            ("ts_recv_ns", "ts_recv"),
            ("sequence", "sequence"),
        ):
            assert by_file[column].to_pylist() == theirs[field].tolist(), column
        levels = [f"{s}_{w}_{k:02d}" for s in ("bid", "ask") for w in ("px", "sz", "ct") for k in range(10)]
        for column in ["price", "size", *(levels if name == "futures_mbp10" else [])]:
            values = [int(v) for v in theirs[column]]
            if column == "price" or "_px_" in column:
                known = [v for v in values if v != real_hour.UNDEF_PRICE]
                total = pc.sum(ours[column]).as_py()
                assert total == Decimal(sum(known)).scaleb(-9), column
                assert ours[column].null_count == len(values) - len(known), column
            else:
                assert pc.sum(ours[column]).as_py() == sum(values), column


def bronze_rows(root: Path, name: str) -> pa.Table:
    return pa.concat_tables(
        pq.read_table(f.path, partitioning=None) for f in visible_files(root) if f.source_name == name
    )


def test_the_hour_is_one_session_and_only_that(lake: Path):
    for kind in ("silver/datasets/*", "silver/features/*", "gold/training/candidates/*"):
        for folder in (lake / "lake").glob(kind):
            assert {date for _, date in read_partitions(folder)} == {DATE}, folder.name
    trades = silver(lake, "stg_futures__trades", DATE)
    assert len(trades) == 2_271
    assert {row["contract"] for row in trades} == {"ESH4"}
    assert [row["contract"] for row in silver(lake, "dim_front_month", DATE)] == ["ESH4"]
    for width in (1, 60, 120):
        found = [row["volume"] for row in silver(lake, "ohlcv", DATE) if row["bar_s"] == width]
        assert sum(found) == sum(row["size"] for row in trades)


def test_levels_and_touches(lake: Path):
    levels = {row["level_kind_name"] for row in silver(lake, "levels", DATE, SET.digest)}
    assert levels == {"ROUND", "VWAP", "SESSION_HIGH", "SESSION_LOW"}
    touched = {row["level_kind_name"] for row in silver(lake, "touches", DATE, SET.digest)}
    assert touched == {"ROUND", "VWAP"}


def test_silver_equals_the_oracle(lake: Path, oracle: OracleDay):
    """Levels, touches, points, labels, and every column of the catalogue for every observation point."""
    assert_day_equals_oracle(of_lake(lake, DATE, SET.digest), oracle)
    assert len(oracle.touches) == 2
    assert sum(row["label_status"] == "ok" for row in oracle.labels) > 0


# What each `null_when` of the version's YAML means, asked of a row; a new wording has to be given its meaning here.
OPERANDS = {
    "liquidity_pressure": ("barrier_delta_liq", "wall_ratio"),
    "tape_pressure": ("tape_imbalance", "tape_velocity"),
    "gamma_pressure": ("gamma_exposure",),
    "gamma_pressure_accel": ("gamma_flow_accel_3m",),
}
NULL_WHEN = {
    "not observable": lambda name, row, oracle, point: not row["barrier_observable"],
    "not observable, or fewer than 60 samples, or median 0": lambda name, row, oracle, point: (
        not row["barrier_observable"] or few_samples(oracle, point)
    ),
    "as wall_ratio": lambda name, row, oracle, point: row["wall_ratio"] is None,
    "no signed volume in the band": lambda name, row, oracle, point: (
        row["tape_buy_vol"] + row["tape_sell_vol"] == 0
    ),
    "fewer than 2 timestamps": lambda name, row, oracle, point: len(instants(name, oracle, point)) < 2,
    "no options yet": lambda name, row, oracle, point: True,
    "no options yet, or baseline 0": lambda name, row, oracle, point: True,
    "a NULL operand": lambda name, row, oracle, point: any(row[k] is None for k in OPERANDS[name]),
}


def few_samples(oracle: OracleDay, point: dict) -> bool:
    side = {"UP": 1, "DOWN": 0}[point["direction"]]
    samples = wall_samples(oracle.book["states"], point["asof_ns"], side, OVERNIGHT)
    return len(samples) < 60 or median(samples) == 0


def instants(name: str, oracle: OracleDay, point: dict) -> set[int]:
    """Distinct times of the trades in the window that a slope's name ends with."""
    seconds = 60 if name == "tape_velocity" else int(name.rsplit("_", 1)[1].removesuffix("s"))
    asof = point["asof_ns"]
    return {t["ts_event_ns"] for t in trades_within(oracle.trades, asof - seconds * SECOND_NS, asof)}


def test_features_are_finite_or_null_by_their_rule(
    lake: Path, oracle: OracleDay, feature_columns: dict[str, dict]
):
    """Each column is NULL exactly where its `null_when` says so, and never without one."""
    by_id = {point["observation_id"]: point for point in oracle.points}
    found = rows(lake, VERSION, DATE)
    assert len(found) == len(by_id) > 0
    assert len(feature_columns) == 44
    for row in found:
        point = by_id[row["observation_id"]]
        for name, meta in feature_columns.items():
            value, rule = row[name], meta.get("null_when")
            due = rule is not None and NULL_WHEN[rule](name, row, oracle, point)
            assert (value is None) == due, f"{name} was {value!r}, its rule is NULL when {rule}: {row}"
            assert not isinstance(value, float) or math.isfinite(value), name
            assert value is None or "domain" not in meta or value in meta["domain"], name


def test_every_feature_is_finite_or_null_for_a_reason(lake: Path):
    columns = feature_columns_of("2_0")
    found = rows(lake, "silver/features/v2.0_full_ensemble", DATE)
    assert len(columns) == 126  # of the level and the 124, the two averages being reference
    for row in found:
        for name, meta in columns.items():
            value = row[name]
            assert value is not None or "null_when" in meta, name
            assert not isinstance(value, float) or math.isfinite(value), name
            assert value is None or "domain" not in meta or value in meta["domain"], name


def test_the_version_says_what_it_holds(lake: Path, feature_columns: dict[str, dict]):
    """manifest.yaml and params.yaml beside the version's dates (spec market 11.2)."""
    manifest = yaml.safe_load((lake / "lake" / VERSION / "manifest.yaml").read_text())
    resolved = yaml.safe_load((lake / "lake" / VERSION / "params.yaml").read_text())
    assert list(manifest) == [
        *("version", "name", "description", "created_at", "created_by", "status", "parent_version", "source"),
        *("param_set", "features", "parameters", "validation", "dates", "digests", "tags", "notes"),
    ]
    assert (manifest["version"], manifest["name"], manifest["status"]) == ("1.0.0", "mechanics_only", "draft")
    assert manifest["param_set"] == resolved["param_set"] == "overnight"
    listed = [c for group in manifest["features"]["groups"] for g in group.values() for c in g["columns"]]
    assert sorted(listed) == sorted(feature_columns)

    found = rows(lake, VERSION, DATE)
    (partition,) = read_partitions(lake / "lake" / VERSION).values()
    (date,) = manifest["dates"]
    assert (date["date"], date["rows"], date["status"], date["error"]) == (DATE, len(found), "ok", None)
    assert date["signals"] == len({row["event_id"] for row in found})
    assert date["content_digest"] == partition.commit.content_digest
    assert resolved["inputs"] == {DATE: date["input_digest"]} == {DATE: partition.commit.input_digest}
    validation = manifest["validation"]
    assert validation["date_range"] == {"start": DATE, "end": DATE}
    assert (validation["row_count"], validation["feature_count"]) == (len(found), 44)
    rates = {name: sum(row[name] is None for row in found) / len(found) for name in feature_columns}
    assert validation["null_rates"] == pytest.approx(rates, abs=1e-6)
    assert manifest["digests"]["params"] == resolved["params_digest"] == SET.digest
    assert resolved["resolved"] == SET.values
    assert manifest["digests"]["build"] == partition.commit.build_digest
    assert manifest["digests"]["code"] == resolved["code"]["code_digest"]


def test_gold_is_the_ok_rows(lake: Path):
    """Nothing is contaminated here, so that every point with an outcome is a training row."""
    gold = rows(lake, GOLD, DATE)
    ok = {
        r["observation_id"]: r for r in silver(lake, "labels", DATE, SET.digest) if r["label_status"] == "ok"
    }
    features = {r["observation_id"]: r for r in rows(lake, VERSION, DATE)}
    assert {row["observation_id"] for row in gold} == ok.keys()
    for row in gold:
        for source in (features[row["observation_id"]], ok[row["observation_id"]]):
            assert {k: row[k] for k in source.keys() & row.keys()} == {
                k: source[k] for k in source.keys() & row.keys()
            }
    assert [(r["asof_ns"], r["observation_id"]) for r in gold] == sorted(
        (r["asof_ns"], r["observation_id"]) for r in gold
    )


def test_a_second_build_does_nothing(lake: Path):
    def state() -> dict[str, tuple]:
        files = [
            *(lake / "lake").glob("[sg]*/**/data.parquet"),
            *(lake / "lake").glob("[sg]*/**/commit-*.json"),
        ]
        return {str(f): (f.stat().st_ino, f.stat().st_mtime_ns) for f in files}

    before = state()
    assert len(before) > 20
    assert run_dbt(lake, "build", param_set="overnight") == {}
    assert state() == before


def test_one_version_is_built_with_its_parents_and_no_more(lake: Path, files: list[Path], tmp_path: Path):
    assert ingest(tmp_path, files).ok
    run_dbt(tmp_path, "build", "--select", "+touch_features.v1_0", param_set="overnight")
    assert not (tmp_path / "lake" / "gold").exists()
    made = {folder.name for folder in (tmp_path / "lake" / "silver" / "datasets").iterdir()}
    assert not {name for name in made if "label" in name}
    for name in sorted(made):
        folder = f"silver/datasets/{name}"
        assert datasets.dataset_digest(tmp_path, folder) == datasets.dataset_digest(lake, folder), name
    assert datasets.dataset_digest(tmp_path, VERSION) == datasets.dataset_digest(lake, VERSION)
    manifest = yaml.safe_load((tmp_path / "lake" / VERSION / "manifest.yaml").read_text())
    assert [date["status"] for date in manifest["dates"]] == ["ok"]
