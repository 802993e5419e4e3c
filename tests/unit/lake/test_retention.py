"""Retention: nothing goes but what a copy, read in the same call, holds; and every reader finds every row."""

import datetime
import json
import random
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.compaction import compact
from lake import atomic, bronze, commits, datasets, keyed, released, retention, staging, views
from lake.archive_units import units
from lake.digest import file_digest
from lake.retention import Policy, PolicyError, Rules, load_rules
from lake.status import built_status
from tests.fixtures.bronze import Delivery, at_ns, make_bronze, print_at
from tests.fixtures.processes import count_instants, dies_at

AS_OF = datetime.date(2026, 3, 1)
OLD, YOUNG = "2025-11-03", "2026-02-20"
RUN = "20260301T000000Z_retention_00c0de"


def rules(*held: str, allowed: bool = True, hot_days: int = 90) -> Rules:
    policies = [Policy(p, hot_days, -1, "date", allowed) for p in ("bronze/*", "silver/*", "gold/*", "raw/*")]
    return Rules((*policies,), frozenset(held), AS_OF)


def prints(day: str, seed: int, hour: int = 14, count: int = 60) -> list[dict]:
    rng = random.Random(seed)  # noqa: S311
    start = at_ns(f"{day}T{hour:02d}:00:00")
    return [print_at(start + i * 1_000_000, 27_200 + rng.randrange(9)) for i in range(count)]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Two old hours, of which one is held by two deliveries, and a young one."""
    root = tmp_path / "lake_root"
    make_bronze(
        root,
        [
            Delivery("a", {"trades": prints(OLD, 1) + prints(OLD, 2, hour=15)}),
            Delivery("b", {"trades": prints(OLD, 3)}),
            Delivery("young", {"trades": prints(YOUNG, 4)}),
        ],
    )
    for path in (root / "raw/_metadata").glob("receipt-*.json"):
        atomic.write_json(path, json.loads(path.read_text()) | {"path": None})  # no raw files here
    return root


def rows(root: Path) -> list[tuple]:
    """Every row by the list of visible files."""
    names = [str(p) for p in bronze.paths(bronze.visible_files(root))]
    with duckdb.connect(config={"threads": 1}) as connection:
        return connection.execute(
            "select delivery_id, ordinal, ts_event_ns, sequence, price, size from "
            f"read_parquet({names}, hive_partitioning = false) order by all"
        ).fetchall()


def planned(root: Path) -> list[tuple]:
    return [
        (f.hour_key, f.name, f.rows, f.delivery_id, f.content_digest, f.state)
        for f in bronze.visible_files(root)
    ]


def snapshot(root: Path) -> dict[str, bytes]:
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and p.suffix != ".lock"
    }


def states(found: list[retention.Row]) -> list[tuple]:
    return [(row.unit.partition.split("/", 1)[1], row.state) for row in found]


HOURS = [f"date={OLD}/hour=14", f"date={OLD}/hour=15"]


def test_archive_verify_delete_and_nothing_is_lost(lake):
    before, seen = rows(lake), planned(lake)
    assert states(retention.plan(lake, rules())) == [(h, "hot") for h in HOURS]
    assert states(retention.archive(lake, rules(), RUN)) == [(h, "archived") for h in HOURS]
    assert states(retention.plan(lake, rules())) == [(h, "archived") for h in HOURS]
    assert retention.archive(lake, rules(), RUN) == [], "once is enough"
    assert states(retention.verify(lake, rules())) == [(h, "verified") for h in HOURS]
    assert states(retention.delete(lake, rules(), RUN, yes=True)) == [(h, "deleted") for h in HOURS]

    assert (rows(lake), planned(lake)) == (before, seen)
    assert [p.name for p in (lake / "lake/bronze").rglob("part-*.parquet")] == [
        f"part-{Delivery('young', {}).id[:8]}-000.parquet"
    ]
    assert sum(f.is_archived for f in bronze.visible_files(lake)) == 3
    assert retention.plan(lake, rules()) == []
    assert retention.delete(lake, rules(), RUN, yes=True) == []
    assert states(retention.verify(lake, rules())) == [(h, "verified") for h in HOURS]
    assert len((lake / "_meta/retention.log").read_text().splitlines()) == 3


def test_the_archive_says_what_it_holds(lake):
    retention.archive(lake, rules(), RUN)
    folder = lake / "lake/archive/bronze/futures/trades/month=2025-11"
    content = json.loads((folder / "archive.json").read_text())
    assert (content["dataset"], content["month"]) == ("bronze/futures/trades", "2025-11")
    by_digest = {(f.delivery_id, f.content_digest, f.rows) for f in bronze.visible_files(lake)}
    for entry in content["partitions"]:
        assert atomic.sha256_file(folder / entry["path"]) == entry["sha256"]
        assert file_digest(folder / entry["path"]) == entry["content_hash"]
        assert pq.read_metadata(folder / entry["path"]).num_rows == entry["rows"]
        assert {(s["owner"], s["content_digest"], s["rows"]) for s in entry["sources"]} <= by_digest


def test_a_dry_run_changes_nothing(lake):
    retention.archive(lake, rules(), RUN)
    before = snapshot(lake)
    assert states(retention.delete(lake, rules(), RUN)) == [(h, "would be deleted") for h in HOURS]
    retention.plan(lake, rules())
    retention.verify(lake, rules())
    assert snapshot(lake) == before


def test_without_a_copy_nothing_goes(lake):
    before = snapshot(lake)
    found = retention.delete(lake, rules(), RUN, yes=True)
    assert [row.state for row in found] == ["refused"] * 2
    assert "no copy in the archive" in found[0].problem
    assert snapshot(lake) == before


@pytest.mark.parametrize("damage", ["a byte", "cut", "gone", "other rows"])
def test_a_damaged_copy_is_refused_and_the_other_goes(lake, damage):
    retention.archive(lake, rules(), RUN)
    before = rows(lake)
    copy = next((lake / "lake/archive").rglob("hour=14/*.parquet"))
    data = bytearray(copy.read_bytes())
    if damage == "a byte":
        data[100] ^= 1
    elif damage == "cut":
        del data[-1]
    copy.write_bytes(data)
    if damage == "gone":
        copy.unlink()
    elif damage == "other rows":  # and archive.json made to agree: the source's record still says no
        table = pq.read_table(copy, partitioning=None)
        pq.write_table(table.slice(1), copy)
        listing = copy.parents[3] / "archive.json"
        content = json.loads(listing.read_text())
        entry = next(e for e in content["partitions"] if e["path"].endswith(copy.name))
        entry |= {
            "sha256": atomic.sha256_file(copy),
            "rows": table.num_rows - 1,
            "content_hash": file_digest(copy),
        }
        listing.write_text(json.dumps(content))
    found = retention.delete(lake, rules(), RUN, yes=True)
    assert states(found) == [(HOURS[0], "refused"), (HOURS[1], "deleted")]
    assert [row.state for row in retention.verify(lake, rules())] == ["refused", "verified"]
    assert rows(lake) == before


def test_a_partition_that_grew_since_is_refused_until_it_is_archived_again(lake):
    retention.archive(lake, rules(), RUN)
    late = Delivery("late", {"trades": prints(OLD, 9)})
    make_bronze(lake, [late])
    path = lake / f"raw/_metadata/receipt-{late.id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"path": None}))
    before = rows(lake)
    found = retention.delete(lake, rules(), RUN, yes=True)
    assert [row.state for row in found] == ["refused", "deleted"]
    retention.archive(lake, rules(), RUN)
    assert [row.state for row in retention.delete(lake, rules(), RUN, yes=True)] == ["deleted"]
    assert rows(lake) == before


def test_a_late_delivery_of_an_archived_hour_is_archived_beside_it(lake):
    retention.archive(lake, rules(), RUN)
    retention.delete(lake, rules(), RUN, yes=True)
    late = Delivery("late", {"trades": prints(OLD, 9)})
    make_bronze(lake, [late])
    path = lake / f"raw/_metadata/receipt-{late.id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"path": None}))
    before, seen = rows(lake), planned(lake)
    assert not compact(lake).changed, "what is archived is not merged"
    retention.archive(lake, rules(), RUN)
    assert [row.state for row in retention.delete(lake, rules(), RUN, yes=True)] == ["deleted"]
    assert (rows(lake), planned(lake)) == (before, seen)


def test_merged_hours_are_archived_with_everything_that_was_merged(lake):
    before, seen = rows(lake), planned(lake)
    compact(lake)
    retention.archive(lake, rules(), RUN)
    retention.delete(lake, rules(), RUN, yes=True)
    assert (rows(lake), planned(lake)) == (before, seen)
    assert not [*(lake / "lake/bronze").rglob("*-merged.parquet")]
    assert not [*(lake / "lake/bronze").rglob("compact-*.json")]
    assert not compact(lake, grace_s=0).changed


def test_a_policy_that_forbids_it_and_an_open_hour_keep_a_partition(lake):
    retention.archive(lake, rules(), RUN)
    found = retention.delete(lake, rules(allowed=False), RUN, yes=True)
    assert {row.problem for row in found} == {"its policy says delete_allowed false"}
    record = lake / f"lake/bronze/futures/trades/_metadata/date={OLD}/commit-{Delivery('b', {}).id[:8]}.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"status": "open"}))
    found = retention.delete(lake, rules(), RUN, yes=True)
    assert [row.state for row in found] == ["refused", "deleted"]
    assert "open" in found[0].problem


# -- built datasets, raw files, clients --------------------------------------------------------------------------------


def build(root: Path, dataset: str, day: str, clients: list[int]) -> None:
    table = pa.table({"client_id": clients, "value": [*range(len(clients))], "run_id": ["x"] * len(clients)})
    staged = root / "staged.parquet"
    root.mkdir(exist_ok=True)
    pq.write_table(table, staged)
    commits.publish(
        staged,
        root / "lake" / dataset / f"date={day}",
        commits.Commit(
            dataset=dataset, date=day, params_digest=None, rows=table.num_rows, bytes=staged.stat().st_size,
            content_digest=file_digest(staged, ["run_id"]), build_key="b" * 64, code_digest="c" * 64,
            inputs={"bronze/events/x": "d" * 64}, input_digest="e" * 64, build_digest=None,
            built_at="2025-11-04T00:00:00Z", run_id="20251104T000000Z_run_00c0de",
        ),
    )  # fmt: skip


def test_a_built_date_lives_on_in_the_archive_and_counts_as_built(tmp_path):
    root = tmp_path / "lake_root"
    for day in (OLD, YOUNG):
        build(root, "silver/orders", day, [1, 2])
    folder = root / "lake/silver/orders"
    before = {key: p.commit.build_key for key, p in commits.read_partitions(folder).items()}
    table = datasets.read(root, "silver/orders")
    retention.archive(root, rules(), RUN)
    assert [row.state for row in retention.delete(root, rules(), RUN, yes=True)] == ["deleted"]
    assert not (folder / f"date={OLD}" / commits.DATA_FILE).exists()
    found = commits.read_partitions(folder)
    assert {key: p.commit.build_key for key, p in found.items()} == before
    assert [p.is_archived for p in found.values()] == [True, False]
    assert datasets.read(root, "silver/orders") == table
    assert [row.state for row in retention.verify(root, rules())] == ["verified"]
    assert retention.plan(root, rules()) == []


def test_a_held_client_keeps_every_partition_with_a_row_of_his(tmp_path):
    root = tmp_path / "lake_root"
    build(root, "silver/mine", OLD, [1, 7])
    build(root, "silver/others", OLD, [1, 2])
    build(root, "silver/by_client/client_id=7", OLD, [7])
    retention.archive(root, rules(), RUN)
    before = snapshot(root)
    found = retention.delete(root, rules("7"), RUN, yes=True)
    assert {row.unit.dataset: row.state for row in found} == {
        "silver/by_client/client_id=7": "refused", "silver/mine": "refused", "silver/others": "deleted",
    }  # fmt: skip
    assert all("legal hold" in row.problem for row in found if row.state == "refused")
    assert (root / f"lake/silver/mine/date={OLD}/data.parquet").read_bytes() == before[
        f"lake/silver/mine/date={OLD}/data.parquet"
    ]


def build_keyed(root: Path, dataset: str, day: str, clients: list[int]) -> None:
    """One date of a dataset with a file for each client, whose ids come in order."""
    columns = {"client_id": pa.array(clients, pa.int64()), "value": [*range(len(clients))]}
    table = pa.table(columns | {"run_id": ["x"] * len(clients)})
    root.mkdir(exist_ok=True)
    target = staging.Target(
        where=dataset, file=root / "staged.parquet", sql="", columns=[], key=["client_id", "value"], date=day,
        lineage=["run_id"], path_keys=["client_id"],
    )  # fmt: skip
    staged = staging.stage_batches(table.to_batches(), table.schema, target)
    commit = commits.Commit(
        dataset=dataset, date=day, params_digest=None, rows=len(clients), bytes=0,
        content_digest=staged.content_digest, build_key="b" * 64, code_digest="c" * 64,
        inputs={}, input_digest="e" * 64, build_digest=None,
        built_at="2025-11-04T00:00:00Z", run_id="20251104T000000Z_run_00c0de",
    )  # fmt: skip
    keyed.publish(staged.files, root / "lake" / dataset, commit, {"client_id": "bigint"})
    keyed.tidy(root / "lake" / dataset)


def test_a_key_under_legal_hold_stays_while_the_others_of_its_date_go(tmp_path):
    root = tmp_path / "lake_root"
    build_keyed(root, "silver/stops", OLD, [1, 1, 7, 8])
    build_keyed(root, "silver/stops", YOUNG, [1])
    build_keyed(root, "silver/stops", "2025-11-04", [])  # a date without any key is its record alone
    folder = root / "lake/silver/stops"
    table = datasets.read(root, "silver/stops")
    assert [row.unit.partition for row in retention.plan(root, rules("7"))] == [
        f"client_id={c}/date={OLD}" for c in (1, 7, 8)
    ]
    retention.archive(root, rules("7"), RUN)
    found = retention.delete(root, rules("7"), RUN, yes=True)
    assert [row.state for row in found] == ["deleted", "refused", "deleted"]
    assert "legal hold" in found[1].problem
    (partition,) = [p for p in commits.read_partitions(folder).values() if p.commit.date == OLD]
    assert [f.is_archived for f in partition.key_files] == [True, False, True]
    assert [f.path.is_relative_to(folder) for f in partition.key_files] == [False, True, False]
    assert datasets.read(root, "silver/stops") == table
    with duckdb.connect() as connection:
        node = {
            "name": "stops", "columns": {n: {"name": n, "data_type": t} for n, t in
            (("client_id", "bigint"), ("value", "bigint"), ("run_id", "varchar"), ("date", "date"))},
        }  # fmt: skip
        select = views.dataset_view(node, "date", False, [*commits.read_partitions(folder).values()])
        shown = connection.execute(f"select client_id, count(*) from ({select}) group by all order by all")
        assert shown.fetchall() == [(1, 3), (7, 1), (8, 1)]
    assert [row.state for row in retention.verify(root, rules("7"))] == ["verified"] * 3
    assert [row.unit.partition for row in retention.plan(root, rules())] == [f"client_id=7/date={OLD}"]
    assert [row.state for row in retention.delete(root, rules(), RUN, yes=True)] == ["deleted"]
    assert datasets.read(root, "silver/stops") == table
    status = [row for row in built_status(root) if row.dataset == "silver/stops"]
    assert [(row.dates, row.rows) for row in status] == [(3, 5)]


def test_a_date_that_is_built_anew_after_its_keys_were_archived_is_hot_again(tmp_path):
    root = tmp_path / "lake_root"
    build_keyed(root, "silver/stops", OLD, [1, 2])
    retention.archive(root, rules(), RUN)
    retention.delete(root, rules(), RUN, yes=True)
    build_keyed(root, "silver/stops", OLD, [2, 3])
    assert datasets.read(root, "silver/stops")["client_id"].to_pylist() == [2, 3]
    assert {row.state for row in retention.plan(root, rules())} == {"hot"}
    archived = [*(root / "lake/archive/silver/stops").rglob("*.parquet")]
    assert len(archived) == 2, "a copy in the archive is never deleted"


def test_training_sets_and_released_versions_stay(tmp_path):
    root = tmp_path / "lake_root"
    build(root, "gold/training_sets/stop_outcome/v1.0.0/train", OLD, [1])
    build(root, "silver/features/v1.0_x", OLD, [1])
    released.write(root, "v1.0_x", [])
    assert [row.state for row in retention.archive(root, rules(), RUN)] == ["refused"] * 2
    found = retention.delete(root, rules(), RUN, yes=True)
    assert {row.problem for row in found} == {"gold training sets stay", "it is of a released version"}


def test_a_raw_file_goes_to_the_archive_and_its_receipt_says_where(tmp_path):
    root = tmp_path / "lake_root"
    file = root / "raw/dbn/trades/day.dbn.zst"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"as the vendor sent it")
    receipt = {
        "path": "raw/dbn/trades/day.dbn.zst", "date": OLD, "status": "landed", "record_count": 3,
        "sha256": atomic.sha256_file(file), "archived_uri": None, "delivery_id": "0" * 16,
    }  # fmt: skip
    record = root / "raw/_metadata/receipt-0000000000000000.json"
    atomic.write_json(record, receipt)
    retention.archive(root, rules(), RUN)
    assert [row.state for row in retention.delete(root, rules(), RUN, yes=True)] == ["deleted"]
    after = json.loads(record.read_text())
    assert not file.exists()
    assert (root / after["archived_uri"]).read_bytes() == b"as the vendor sent it"
    assert after == receipt | {"status": "archived", "archived_uri": after["archived_uri"]}
    assert [row.state for row in retention.verify(root, rules())] == ["verified"]
    (root / after["archived_uri"]).write_bytes(b"as the vendor sent iT")
    assert [row.state for row in retention.verify(root, rules())] == ["refused"]


# -- the seed ----------------------------------------------------------------------------------------------------------


def test_a_dataset_has_one_policy_or_is_refused():
    both = Rules((Policy("bronze/*", 1, -1, "date", True),) * 2, frozenset(), AS_OF)
    for found, dataset in ((both, "bronze/events"), (both, "silver/orders")):
        with pytest.raises(PolicyError, match="expected exactly one"):
            found.is_due(dataset, OLD)


@pytest.mark.parametrize(
    "row", ["a,-2,-1,date,true", "a,x,-1,date,true", "a,1,-1,day,true", "a,1,-1,date,yes"]
)
def test_a_policy_that_means_nothing_is_refused(tmp_path, row):
    file = tmp_path / "policy.csv"
    file.write_text(f"dataset,hot_days,archive_days,date_column,delete_allowed\n{row}\n")
    with pytest.raises(PolicyError, match="expected days of at least -1"):
        load_rules(AS_OF, policy_file=file)


def test_ages_are_counted_in_whole_days():
    limit = rules(hot_days=90)
    assert not limit.is_due("bronze/events", "2025-12-01")  # 90 days old
    assert limit.is_due("bronze/events", "2025-11-30")
    assert not rules(hot_days=-1).is_due("bronze/events", "1999-01-01")


# -- kills -------------------------------------------------------------------------------------------------------------


def through_retention(root: Path) -> None:
    compact(root)
    retention.archive(root, rules(), RUN)
    retention.delete(root, rules(), RUN, yes=True)


def kill_and_repair(root: Path, base: Path, count: int) -> int:
    before, seen = rows(root), planned(root)
    timed = Path(shutil.copytree(root, base / "timed"))
    instants = count_instants(lambda: through_retention(timed), base / "instants")
    rng, killed = random.Random(20260301), 0  # noqa: S311
    for trial in range(count):
        copy = Path(shutil.copytree(root, base / f"trial{trial}"))
        for _ in range(2):  # the second falls on what the first has left, which may have fewer instants
            killed += dies_at(lambda copy=copy: through_retention(copy), rng.randrange(instants))
            assert (rows(copy), planned(copy)) == (before, seen)
        retention.archive(copy, rules(), RUN)
        retention.delete(copy, rules(), RUN, yes=True)
        compact(copy, grace_s=0)
        assert (rows(copy), planned(copy)) == (before, seen)
        assert len([*(copy / "lake/bronze").rglob("part-*.parquet")]) == 1, "the young one alone"
        assert {row.state for row in retention.verify(copy, rules())} == {"verified"}
        shutil.rmtree(copy)
    return killed


def test_a_kill_at_any_instant_leaves_every_row_in_a_verified_place(lake, tmp_path):
    assert kill_and_repair(lake, tmp_path, 6) >= 6


@pytest.mark.long
def test_kills_many_times(lake, tmp_path):
    assert kill_and_repair(lake, tmp_path, 60) >= 60


def test_units_come_in_order(lake):
    found = [(u.dataset, u.date, u.partition) for u in units(lake, lambda *_: True)]
    assert found == sorted(found)
    assert len(found) == 3
