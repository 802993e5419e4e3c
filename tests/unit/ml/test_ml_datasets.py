"""Which columns a model may see, and how they are encoded."""

import json
from dataclasses import replace

import ml_worlds
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml import datasets
from ml.datasets import DatasetError, LeakError


@pytest.fixture(scope="module")
def contract():
    return ml_worlds.contract()


@pytest.fixture(scope="module")
def table():
    return ml_worlds.gold(sessions=13, touches=20, planted=False)


def with_column(contract, name, **changes):
    columns = tuple(replace(c, **changes) if c.name == name else c for c in contract.columns)
    return replace(contract, columns=columns)


def put(table, name, values):
    return table.set_column(table.column_names.index(name), name, values)


def test_inputs_are_level_and_features_in_contract_order(contract):
    names = [c.name for c in datasets.feature_columns(contract)]
    assert len(names) == 44
    assert names[:5] == ["level_kind_name", "direction", "direction_sign", "distance", "barrier_state"]
    assert not set(names) & (set(ml_worlds.ID.split()) | set(ml_worlds.LABEL.split()))
    assert [c.name for c in datasets.level_columns(contract)] == names[:4]


@pytest.mark.parametrize("name", ml_worlds.LABEL.split())
def test_a_label_is_refused_by_name_and_by_role(contract, name):
    with pytest.raises(LeakError, match=f"{name} was offered"):
        datasets.feature_columns(contract, ["barrier_state", name])
    with pytest.raises(LeakError, match=f"{name} was offered"):
        datasets.feature_columns(with_column(contract, name, role="feature"))


def test_a_label_under_another_name_is_refused_by_its_role(contract):
    innocent = replace(contract.column("outcome"), name="barrier_hint")
    with pytest.raises(LeakError, match="barrier_hint"):
        datasets.feature_columns(replace(contract, columns=(*contract.columns, innocent)), ["barrier_hint"])


@pytest.mark.parametrize("name", ["tradeable_2_lag", "y_outcome", "label_x", "excursion", "future_mid"])
def test_a_copy_that_keeps_a_labels_stem_is_refused(contract, name):
    copy = replace(contract.column("distance"), name=name)
    with pytest.raises(LeakError, match=name):
        datasets.feature_columns(replace(contract, columns=(*contract.columns, copy)))


@pytest.mark.parametrize("name", ml_worlds.ID.split())
def test_an_id_is_never_an_input(contract, name):
    with pytest.raises(DatasetError, match="never enter"):
        datasets.feature_columns(contract, [name])
    with pytest.raises(DatasetError, match="never enter"):
        datasets.feature_columns(with_column(contract, name, role="feature"))


@pytest.mark.parametrize("name", ["sma_200", "level_tick", "hvl"])
def test_a_reference_column_is_never_an_input(contract, name):
    column = replace(contract.column("distance"), name=name)
    with pytest.raises(DatasetError, match="never enter"):
        datasets.feature_columns(replace(contract, columns=(*contract.columns, column)))


def test_text_needs_a_domain(contract):
    with pytest.raises(DatasetError, match="barrier_state has no domain"):
        datasets.feature_columns(with_column(contract, "barrier_state", domain=None))
    with pytest.raises(DatasetError, match="distance is text"):
        datasets.feature_columns(with_column(contract, "distance", dtype="VARCHAR"))
    with pytest.raises(DatasetError, match="expected one of the contract"):
        datasets.feature_columns(contract, ["no_such_column"])


def test_categories_are_codes_of_the_domain_and_the_unseen_is_missing():
    rows = pa.table(
        {
            "barrier_state": pa.array(["WALL", None, "VACUUM", "LAVA"]),
            "sweep_detected": pa.array([True, False, None, True]),
            "distance": pa.array([0.25, None, 1.0, 2.0]),
        }
    )
    dictionaries = {"barrier_state": ["VACUUM", "WALL"]}
    encoded = datasets.encode(rows, ["distance", "barrier_state", "sweep_detected"], dictionaries)
    assert encoded.column_names == ["distance", "barrier_state", "sweep_detected"]
    assert encoded["barrier_state"].to_pylist() == [1, None, 0, None]
    assert encoded["sweep_detected"].to_pylist() == [1.0, 0.0, None, 1.0]
    assert encoded["distance"].to_pylist() == [0.25, None, 1.0, 2.0]
    dictionary = rows.set_column(0, "barrier_state", rows["barrier_state"].dictionary_encode())
    assert datasets.encode(dictionary, ["barrier_state"], dictionaries)["barrier_state"].to_pylist() == [
        1,
        None,
        0,
        None,
    ]


def test_numeric_categories_use_their_domain_too():
    rows = pa.table({"breakout_state": pa.array([2, 0, None, 7], pa.int8())})
    encoded = datasets.encode(rows, ["breakout_state"], {"breakout_state": [0, 1, 2, 3]})
    assert encoded["breakout_state"].to_pylist() == [2, 0, None, None]


def test_a_checked_table_is_in_key_order(table, contract):
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    checked = datasets.check(shuffled, contract)
    keys = list(
        zip(
            *(checked.table[c].to_pylist() for c in ("session_date", "asof_ns", "observation_id")),
            strict=True,
        )
    )
    assert keys == sorted(keys)
    assert checked.table.equals(datasets.check(table, contract).table)
    assert checked.sessions == ml_worlds.session_names(13)
    assert set(checked.stage("touch")["stage"].to_pylist()) == {"touch"}


def test_a_table_that_is_not_the_contracts_is_refused(table, contract):
    with pytest.raises(DatasetError, match="lacked wall_ratio"):
        datasets.check(table.drop_columns(["wall_ratio"]), contract)
    with pytest.raises(DatasetError, match="had shadow, unknown"):
        datasets.check(table.append_column("shadow", table["distance"]), contract)


def test_unlabelled_rows_are_refused(table, contract):
    gaps = pa.array(["data_gap"] + ["ok"] * (table.num_rows - 1))
    with pytest.raises(DatasetError, match="not ok in 1 rows"):
        datasets.check(put(table, "label_status", gaps), contract)
    none = pc.if_else(
        pa.array(np.arange(table.num_rows) < 2), pa.scalar(None, pa.int8()), table["tradeable_2"]
    )
    with pytest.raises(DatasetError, match="disagreed in 2 rows"):
        datasets.check(put(table, "tradeable_2", none), contract)


def test_a_row_that_saw_its_future_is_refused(table, contract):
    with pytest.raises(LeakError, match="max_input_ts_ns was not before asof_ns"):
        datasets.check(put(table, "max_input_ts_ns", table["asof_ns"]), contract)
    late = pc.add(table["label_start_ns"], 1)
    with pytest.raises(LeakError, match="asof_ns was after label_start_ns"):
        datasets.check(put(table, "asof_ns", late), contract)


@pytest.mark.parametrize(
    ("feature", "copy"),
    [
        ("tape_imbalance", lambda t: t["strength_signed"]),
        ("tape_imbalance", lambda t: t["time_to_threshold_2"]),
        ("sweep_detected", lambda t: pc.equal(t["tradeable_2"], 1)),
        ("sweep_direction", lambda t: pc.subtract(1, t["tradeable_2"])),
        ("fuel_effect", lambda t: pc.replace_substring(pc.replace_substring(t["outcome"], "BREAK", "AMPLIFY"),
                                                       "BOUNCE", "DAMPEN")),
    ],
)  # fmt: skip
def test_a_planted_leak_is_found_by_its_values(table, contract, feature, copy):
    with pytest.raises(LeakError, match=f"{feature} repeated the label"):
        datasets.check(put(table, feature, copy(table)), contract)


def test_an_honest_table_is_no_leak(contract):
    for planted in (True, False):
        datasets.check(ml_worlds.gold(sessions=13, touches=60, planted=planted, seed=5), contract)


def test_contract_is_read_from_its_file(tmp_path, contract):
    path = tmp_path / "features.json"
    columns = [
        {"name": c.name, "dtype": c.dtype, "unit": c.unit, "nullable": c.nullable, "role": c.role,
         "group": c.group, "domain": None if c.domain is None else list(c.domain)} for c in contract.columns
    ]  # fmt: skip
    path.write_text(json.dumps({ml_worlds.VERSION: {"version": "1.0.0", "columns": columns}}))
    assert datasets.load_contract(ml_worlds.VERSION, path) == contract
    with pytest.raises(DatasetError, match=r"version was 'v9', expected one of v1\.0_mechanics_only"):
        datasets.load_contract("v9", path)
    with pytest.raises(DatasetError, match="make contracts"):
        datasets.load_contract("v9", tmp_path / "none.json")


@pytest.mark.skipif(not datasets.CONTRACTS.is_file(), reason="contracts/features.json was not generated yet")
def test_the_generated_contract_names_the_same_columns(contract):
    real = datasets.load_contract(ml_worlds.VERSION)
    assert {c.name: c.role for c in real.columns} == {c.name: c.role for c in contract.columns}
    for name in ("barrier_state", "direction", "fuel_effect", "gamma_bucket"):
        assert set(real.column(name).domain) == set(contract.column(name).domain)
    assert len(datasets.feature_columns(real)) == 44


def test_a_loaded_table_is_held_by_the_systems_allocator(tmp_path, small, contract):
    ordered = small.sort_by([(name, "ascending") for name in datasets.KEY])
    ml_worlds.commit_gold(tmp_path, ordered)
    before = pa.default_memory_pool().backend_name
    held = pa.system_memory_pool().bytes_allocated()
    loaded = datasets.load(tmp_path, ml_worlds.VERSION, contract)
    assert pa.system_memory_pool().bytes_allocated() - held > ordered.num_rows * 8 * 40
    assert loaded.table.select(ordered.column_names).equals(ordered)
    assert pa.default_memory_pool().backend_name == before
    partition = tmp_path / "lake" / datasets.folder(ml_worlds.VERSION) / "date=2025-10-06"
    (partition / "data.parquet").write_bytes(b"")
    with pytest.raises(pa.ArrowInvalid):
        datasets.load(tmp_path, ml_worlds.VERSION, contract)
    assert pa.default_memory_pool().backend_name == before


def test_a_label_of_many_values_is_no_copy_of_an_input_of_few(contract):
    """Nor the other way round: what both hold has to be the same."""
    table = ml_worlds.gold(sessions=13, touches=60, planted=False)
    few = pa.array(np.arange(table.num_rows) % 4 / 4)
    for feature, label in (("tape_imbalance", "strength_signed"), ("tape_velocity", "time_to_threshold_2")):
        datasets.check(put(table, label, few), contract)
        datasets.check(put(table, feature, few), contract)
        with pytest.raises(LeakError, match=f"{feature} repeated the label {label}"):
            datasets.check(put(put(table, feature, few), label, pc.subtract(1, few)), contract)


def test_rows_are_numbered_by_what_they_are_equal_in():
    rng = np.random.default_rng(3)
    days = np.array(ml_worlds.session_names(3))[np.sort(rng.integers(0, 3, 200))]
    columns = {
        "session_date": pa.array(days).cast(pa.date32()),
        "kind": pa.array(rng.choice(["VWAP", "ROUND", None], 200)),
        "attempt": pa.array(rng.choice([-1, 4, None], 200), pa.int32()),
    }
    table = pa.concat_tables([pa.table(columns).slice(0, 77), pa.table(columns).slice(77)])
    keys = list(zip(*(table[c].to_pylist() for c in columns), strict=True))
    found = datasets.numbered(table, [*columns])
    assert found.dtype == np.int64
    assert len(set(zip(keys, found.tolist(), strict=True))) == len(set(keys)) == len(set(found.tolist()))
    assert datasets.session_days(table).astype("U10").tolist() == days.tolist()
    assert datasets.session_dates(table).tolist() == days.tolist()
    for kinds in (table["kind"], table["kind"].dictionary_encode()):
        assert datasets.texts(kinds).tolist() == [str(k) for k in table["kind"].to_pylist()]
    # The numbers of an earlier session are smaller: whole sessions have none in common.
    assert all(found[days < d].max() < found[days >= d].min() for d in sorted(set(days))[1:])
    assert len(datasets.numbered(table.slice(0, 0), [*columns])) == 0
    assert len(datasets.texts(table["kind"].slice(0, 0))) == 0
