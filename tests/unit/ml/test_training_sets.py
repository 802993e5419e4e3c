"""Publishing training sets: what a version holds, its number, and what is refused."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lake import atomic, commits, contracts, training_sets, windows
from lake.training_sets import NoSuchSet, definition
from ml.training_sets import candidates, record
from ml.training_sets.candidates import NotPublishable
from ml.training_sets.publish import VersionDiffers, content_hash, publish
from ml.training_sets.split import EmptySide
from tests.fixtures import training_candidates as kit

NEXT = "2025-03-02T00:00:00Z"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both sets, published once. Nobody writes here."""
    root = tmp_path_factory.mktemp("training_sets")
    for name in training_sets.SETS:
        kit.commit(root, name, kit.rows(name, per_day=12))
        assert publish(root, name, data_through=kit.THROUGH).state == "published"
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    kit.commit(tmp_path, "stop_outcome", kit.rows("stop_outcome", days=10, per_day=6))
    return tmp_path


def samples(found: training_sets.Published, split: str) -> pa.Table:
    return pa.concat_tables(pq.read_table(f, partitioning=None) for f in found.files(split))


# -- what a version holds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", training_sets.SETS)
def test_the_record_is_whole_and_true(lake, name):
    found = training_sets.version(lake, name)
    told = found.record
    contracts.check(told, "training_set", "features.json")
    assert tuple(told) == record.KEYS
    assert [f["name"] for f in told["features"]] == [c.name for c in definition(name).features]
    assert (
        told["target"] == {"stop_outcome": "execution_success", "slippage_prediction": "slippage_pct"}[name]
    )
    assert len(told["split"]["folds"]) == 5
    for split in training_sets.SPLITS:
        table = samples(found, split)
        assert table.num_rows == told["rows"][split] == sum(told["rows"]["by_label"][split].values())
        assert table["features"].type.field(0).name == "stop_distance_pct"
        assert set(pc.struct_field(table["metadata"], "split").to_pylist()) == {split}
        assert set(pc.struct_field(table["metadata"], "version").to_pylist()) == {"v1.0.0"}
    for part in told["parts"]:
        assert atomic.sha256_file(found.folder / part["path"]) == part["sha256"]
        assert (
            content_hash(pq.read_table(found.folder / part["path"], partitioning=None))
            == part["content_hash"]
        )
    assert told["inputs"][0]["relation"] == f"gold.{name}_candidates"
    assert told["inputs"][1]["relation"] == "silver.stop_executions"


def test_every_candidate_is_in_one_place_or_counted(lake):
    found = training_sets.version(lake, "stop_outcome")
    made = {r["metadata"]["execution_id"]: r for r in kit.rows("stop_outcome", per_day=12)}
    held = {}
    for split in training_sets.SPLITS:
        for row in samples(found, split).to_pylist():
            assert held.setdefault(row["metadata"]["execution_id"], row) is row
    excluded = found.record["excluded"]
    assert excluded["EMBARGO"] > 0
    assert excluded["OPERATION_STRADDLE"] > 0
    assert len(held) + sum(excluded.values()) == len(made)
    for execution, row in held.items():
        assert row["features"] == made[execution]["features"]
        assert row["label"] == made[execution]["label"]
        expected = uuid.uuid5(kit.NAMESPACE, f"sample|stop_outcome|v1.0.0|{execution}")
        assert row["sample_id"] == expected


def test_the_golden_sample_id():
    """spec/execution.md 2.4."""
    execution = "9240b994-7937-5391-95dd-595de00d6d1d"
    found = uuid.uuid5(kit.NAMESPACE, f"sample|stop_outcome|v1.0.0|{execution}")
    assert str(found) == "25a2a863-b2c7-5287-a201-bf6c6aa75ebe"


def test_statistics_are_of_train_alone(lake):
    found = training_sets.version(lake, "stop_outcome")
    rows = samples(found, "train")["features"].to_pylist()
    for name, told in found.record["train_stats"].items():
        values = [float(r[name]) for r in rows if r[name] is not None]
        assert told["count"] == len(values)
        assert told["null_share"] == pytest.approx(1 - len(values) / len(rows))
        assert told["mean"] == pytest.approx(np.mean(values))
        assert told["std"] == pytest.approx(np.std(values, ddof=1))
        assert (told["min"], told["max"]) == (min(values), max(values))
        assert told["p50"] == pytest.approx(np.median(values))


def test_rows_stand_by_time_and_date(lake):
    found = training_sets.version(lake, "stop_outcome")
    for part in found.record["parts"]:
        as_of = pq.read_table(found.folder / part["path"], partitioning=None)["metadata"].to_pylist()
        assert as_of == sorted(as_of, key=lambda m: (m["as_of"], m["execution_id"].bytes))
        assert {f"date={m['as_of']:%Y-%m-%d}" for m in as_of} == {part["path"].split("/")[1]}


# -- the relation ----------------------------------------------------------------------------------------------------


def test_the_relation_shows_every_version(root):
    empty = duckdb.sql(f"select * from {training_sets.relation(root, 'stop_outcome')}")
    assert empty.fetchall() == []
    publish(root, "stop_outcome", data_through=kit.THROUGH)
    publish(root, "stop_outcome", data_through=NEXT)
    sql = f"select * from {training_sets.relation(root, 'stop_outcome')}"
    shown = duckdb.sql(sql)
    assert shown.columns == empty.columns
    assert shown.types == empty.types
    told = training_sets.version(root, "stop_outcome").record["rows"]
    counts = duckdb.sql(
        f"select version, split, count(*), count(distinct date) from ({sql}) group by all order by all"
    )
    rows = counts.fetchall()
    assert [r[:2] for r in rows] == [(v, s) for v in ("v1.0.0", "v1.0.1") for s in ("test", "train")]
    assert [r[2] for r in rows[2:]] == [told["test"], told["train"]]
    wrong = duckdb.sql(
        f"select count(*) from ({sql}) where version <> metadata.version or split <> metadata.split "
        "or date <> cast(metadata.as_of at time zone 'UTC' as date)"
    )
    assert wrong.fetchone() == (0,)


def test_a_child_that_an_older_version_lacks_is_null(root, monkeypatch):
    publish(root, "stop_outcome", data_through=kit.THROUGH)
    wanted = definition("stop_outcome")
    more = training_sets.Column(
        "added", "double", "x", "feature", nullable=True, formula_id="execution-5.1/added/1"
    )
    later = training_sets.Definition(wanted.name, (*wanted.features, more), wanted.label, wanted.metadata)
    monkeypatch.setattr(training_sets, "definition", lambda name: later)
    found = duckdb.sql(
        f"select features.added, features.hour_of_day from {training_sets.relation(root, 'stop_outcome')}"
    )
    assert found.types[0] == "DOUBLE"
    assert {(a, h is None) for a, h in found.fetchall()} == {(None, False)}


def test_a_version_without_its_record_is_none(root):
    publish(root, "stop_outcome", data_through=kit.THROUGH)
    (training_sets.set_dir(root, "stop_outcome") / "v1.0.0" / "features.json").unlink()
    assert training_sets.published(root, "stop_outcome") == []
    with pytest.raises(NoSuchSet, match=r"none is.*training-sets publish"):
        training_sets.version(root, "stop_outcome")


# -- numbers and refusals --------------------------------------------------------------------------------------------


def test_publishing_again_changes_nothing_and_gives_one_hash(root, tmp_path_factory):
    first = publish(root, "stop_outcome", data_through=kit.THROUGH)
    folder = training_sets.set_dir(root, "stop_outcome")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    again = publish(root, "stop_outcome", "v1.0.0", data_through=kit.THROUGH)
    assert (again.state, again.record) == ("unchanged", first.record)
    assert publish(root, "stop_outcome", data_through=kit.THROUGH).state == "nothing_new"
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before
    other = tmp_path_factory.mktemp("other")
    kit.commit(other, "stop_outcome", kit.rows("stop_outcome", days=10, per_day=6))
    assert (
        publish(other, "stop_outcome", data_through=kit.THROUGH).record["dataset_hash"]
        == first.record["dataset_hash"]
    )


def test_new_data_make_the_next_patch(root):
    publish(root, "stop_outcome", data_through=kit.THROUGH)
    kit.commit(root, "stop_outcome", kit.rows("stop_outcome", days=12, per_day=6))
    found = publish(root, "stop_outcome", data_through=NEXT)
    assert (found.version, found.record["parent_version"]) == ("v1.0.1", "v1.0.0")
    assert found.record["change_note"] == f"data through {NEXT}"
    assert [p.version for p in training_sets.published(root, "stop_outcome")] == ["v1.0.0", "v1.0.1"]


def test_the_same_version_of_other_inputs_is_refused(root):
    publish(root, "stop_outcome", data_through=kit.THROUGH)
    before = training_sets.version(root, "stop_outcome").record
    rows = kit.rows("stop_outcome", days=10, per_day=6)
    rows[3]["features"]["hour_of_day"] = 23 - rows[3]["features"]["hour_of_day"]
    kit.commit(root, "stop_outcome", rows)
    with pytest.raises(
        VersionDiffers, match=r"1 of \d+ parts.*train/date=2024-12-01.*gold.stop_outcome_candidates"
    ):
        publish(root, "stop_outcome", "v1.0.0", data_through=kit.THROUGH)
    assert training_sets.version(root, "stop_outcome").record == before
    assert not (root / "lake" / "_stage" / "training_sets.stop_outcome").exists()


@pytest.mark.parametrize(
    ("edit", "step"),
    [
        (lambda features: features[1:], 2),
        (lambda features: [{**features[0], "dtype": "double"}, *features[1:]], 2),
        (
            lambda features: [
                {**features[0], "formula_id": "execution-5.1/stop_distance_pct/0"},
                *features[1:],
            ],
            2,
        ),
        (lambda features: [*features, {**features[0], "name": "gone"}], 2),
        (lambda features: features, 0),
        (lambda features: [{**features[0], "description": "other words"}, *features[1:]], 0),
    ],
)
def test_what_changed_says_how_far_the_number_goes(edit, step):
    """The record is of an older version: it lacks what came since."""
    wanted = definition("stop_outcome")
    before = record.columns(wanted)
    before["features"] = edit(before["features"])
    expected = 1 if len(before["features"]) < len(wanted.features) else step
    assert record.change(before, wanted) == expected


def test_a_number_that_says_too_little_is_refused(root, monkeypatch):
    publish(root, "stop_outcome", data_through=kit.THROUGH)
    monkeypatch.setattr(record, "change", lambda before, wanted: record.MINOR)
    with pytest.raises(NotPublishable, match=r"minor step.*--version v1\.1\.0"):
        publish(root, "stop_outcome", data_through=NEXT)
    with pytest.raises(NotPublishable, match=r"version was v1\.0\.7, expected at least v1\.1\.0"):
        publish(root, "stop_outcome", "v1.0.7", data_through=NEXT)
    assert publish(root, "stop_outcome", "v1.1.0", data_through=NEXT).record["parent_version"] == "v1.0.0"


def test_reasons_of_the_excluded_are_counted(root):
    rows = kit.rows("stop_outcome", days=10, per_day=6)
    for n, row in enumerate(rows):
        row["excluded_reason"] = "BLOCKED" if n % 10 == 3 else "IMMATURE" if n % 10 == 7 else None
    kit.commit(root, "stop_outcome", rows)
    told = publish(root, "stop_outcome", data_through=kit.THROUGH).record
    assert told["excluded"]["BLOCKED"] == sum(r["excluded_reason"] == "BLOCKED" for r in rows)
    assert sum(told["excluded"].values()) + told["rows"]["train"] + told["rows"]["test"] == len(rows)


def test_candidates_that_cannot_be_published(tmp_path):
    with pytest.raises(NotPublishable, match=r"no date under.*dbt build"):
        publish(tmp_path, "stop_outcome", data_through=kit.THROUGH)
    rows = kit.rows("stop_outcome", days=6, per_day=4)
    kit.commit(tmp_path, "stop_outcome", rows, ok=False)
    with pytest.raises(NotPublishable, match=r"6 of 6 dates that are not ok.*assert_something"):
        publish(tmp_path, "stop_outcome", data_through=kit.THROUGH)
    kit.commit(tmp_path, "stop_outcome", rows)
    table = kit.table("stop_outcome", rows[:3]).drop_columns(["label"])
    kit.write_date(tmp_path, "stop_outcome", "2024-12-02", table)
    with pytest.raises(
        NotPublishable, match=r"2024-12-02: label is missing.*training_sets_stop_outcome_flat.yml"
    ):
        publish(tmp_path, "stop_outcome", data_through=kit.THROUGH)
    with pytest.raises(NoSuchSet, match=r"'stops', expected one of stop_outcome"):
        publish(tmp_path, "stops", data_through=kit.THROUGH)
    assert training_sets.published(tmp_path, "stop_outcome") == []


def test_a_sample_without_a_required_value_is_refused(tmp_path):
    rows = kit.rows("stop_outcome", days=10, per_day=6)
    rows[5]["features"]["hour_of_day"] = None
    kit.commit(tmp_path, "stop_outcome", rows)
    with pytest.raises(
        NotPublishable, match=r"2024-12-01: hour_of_day was NULL in 1 of \d+ samples.*excluded_reason"
    ):
        publish(tmp_path, "stop_outcome", data_through=kit.THROUGH)
    rows[5]["excluded_reason"] = "MISSING_REQUIRED_FEATURE"
    for row in rows:
        row.setdefault("excluded_reason", None)
    kit.commit(tmp_path, "stop_outcome", rows)
    told = publish(tmp_path, "stop_outcome", data_through=kit.THROUGH).record
    assert told["excluded"]["MISSING_REQUIRED_FEATURE"] == 1


def test_too_short_a_range_is_refused(tmp_path):
    kit.commit(tmp_path, "stop_outcome", kit.rows("stop_outcome", days=1, per_day=10))
    with pytest.raises(EmptySide, match=r"train had no sample"):
        publish(tmp_path, "stop_outcome", data_through=kit.THROUGH)
    assert not training_sets.set_dir(tmp_path, "stop_outcome").exists()


def test_data_through_is_the_end_of_the_last_sealed_window(tmp_path):
    with pytest.raises(NotPublishable, match=r"no sealed window.*tickhouse seal"):
        candidates.sealed_through(tmp_path)
    start = datetime(2024, 12, 1, 22, tzinfo=UTC)
    for hour, state in enumerate(["sealed", "sealed", "sealed", "provisional"]):
        at = start + timedelta(hours=hour)
        ends = windows.format_window(at + timedelta(hours=1))
        marker = windows.Marker(
            "events", "prod", windows.format_window(at), ends, state, 0, None, None, 1, False, 0, "0" * 64, ()
        )
        folder = windows.metadata_dir(tmp_path, "events", marker.date)
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write_json(folder / marker.file_name, marker.record())
    assert candidates.sealed_through(tmp_path) == "2024-12-02T01:00:00Z"


def test_the_yaml_of_a_set_says_its_types_twice_and_alike():
    """The struct columns of one view are the children that the flat view describes."""
    yaml = pytest.importorskip("yaml")
    for name in training_sets.SETS:
        path = training_sets.MODELS_DIR / f"training_sets_{name}.yml"
        columns = {
            c["name"]: c["data_type"] for c in yaml.safe_load(path.read_text())["models"][0]["columns"]
        }
        for struct in ("features", "label", "metadata"):
            children = ", ".join(f"{c.name} {c.dtype}" for c in definition(name).struct(struct))
            assert columns[struct] == f"struct({children})"


def test_candidates_promise_what_the_set_asks_for():
    yaml = pytest.importorskip("yaml")
    for name in training_sets.SETS:
        path = training_sets.MODELS_DIR / f"{name}_candidates.yml"
        columns = {
            c["name"]: c["data_type"] for c in yaml.safe_load(path.read_text())["models"][0]["columns"]
        }
        for struct in ("features", "label", "metadata"):
            children = [
                f"{c.name} {c.dtype}"
                for c in definition(name).struct(struct)
                if struct != "metadata" or c.name not in candidates.OF_THE_WHOLE_SET | {candidates.LINEAGE}
            ]
            assert columns[struct] == f"struct({', '.join(children)})"
        assert columns["excluded_reason"] == "varchar"


def test_generated_at_may_come_with_the_candidates(root):
    rows = kit.rows("stop_outcome", days=10, per_day=6)
    plain = publish(root, "stop_outcome", data_through=kit.THROUGH).record["dataset_hash"]
    for row in rows:
        row["metadata"]["generated_at"] = datetime(2024, 12, 31, tzinfo=UTC)
    kit.commit(root, "stop_outcome", rows)
    again = publish(root, "stop_outcome", "v1.0.0", data_through=kit.THROUGH)
    assert (again.state, again.record["dataset_hash"]) == ("unchanged", plain)
    found = commits.read_partitions(root / "lake" / candidates.folder("stop_outcome"))
    assert len(found) == 10


def test_decimals_become_the_doubles_that_duckdb_makes_of_them():
    rng = np.random.default_rng(1)
    texts = [f"{x:.6f}" for x in rng.uniform(0, 0.01, 200)] + [
        "-12345678901234.123456",
        "0.000353",
        "-0.000001",
    ]
    for dtype in ("decimal(28,6)", "decimal(38,6)"):
        table = duckdb.sql(
            f"select cast(x as {dtype}) as x, cast(cast(x as {dtype}) as double) as y from (select unnest($t) as x)",
            params={"t": texts},
        ).to_arrow_table()
        assert record.as_doubles(table["x"].combine_chunks()).tolist() == table["y"].to_pylist()
    wide = pa.array([None, 2**70, -(2**70)], pa.decimal128(38, 0))
    assert np.array_equal(record.as_doubles(wide), [np.nan, 2.0**70, -(2.0**70)], equal_nan=True)
