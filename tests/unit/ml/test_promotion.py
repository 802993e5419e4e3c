"""Promotion: each seeded defect is refused by its gate, and a kill at any instant leaves the old or the new."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from lake import atomic, commits
from ml import datasets, experiments, gates, placing, promotion, registry
from tests.fixtures.processes import count_instants, dies_at
from tests.unit.ml.promoted_worlds import (
    ONE,
    TWO,
    VERSION,
    audited,
    contract,
    landed,
    promote,
    put,
    trained,
    tree,
    world,
)


@pytest.fixture
def root(two_experiments, tmp_path) -> Path:
    return shutil.copytree(two_experiments, tmp_path / "lake_root")


def test_a_promotion_places_everything_that_serves(root: Path) -> None:
    done = promote(root)
    assert done.state == "promoted"
    assert done.dataset_version == 1
    assert done.models == [
        f"exp001_{h}_{s}" for h in ("direction", "tradeable_2") for s in ("confirm_240", "touch")
    ]
    gold = root / placing.GOLD
    manifest = yaml.safe_load((gold / "manifest.yaml").read_text())
    assert manifest["content_digest"] == done.content_digest
    assert {g["name"] for g in manifest["gates"]} >= {
        "released",
        "perturb_the_future",
        "skill",
        "reproducible",
    }
    pointer = json.loads((gold / "pointer.json").read_text())
    assert (pointer["dataset_version"], pointer["content_digest"]) == (1, done.content_digest)
    assert registry.champion(root, "tradeable_2_touch")["status"] == "production"
    for name in ("tradeable_2_touch", "direction_confirm_240"):
        entry = registry.champion(root, name)
        model = registry.load(root, entry, contract().schema_hash)
        assert (model["head"], model["stage"]) == (entry["head"], entry["stage"])
        assert model["model"]["booster"].startswith("tree")
    assert promote(root).state == "unchanged"
    indexes = registry.load_retrieval(root)
    assert sorted(indexes) == ["confirm_240", "touch"]
    assert len(indexes["touch"].rows) == world().num_rows // 2


def test_the_published_table_is_the_judged_one_in_order(root: Path, judged_already: None) -> None:
    promote(root)
    import pyarrow.parquet as pq  # noqa: PLC0415

    table = pq.read_table(root / placing.GOLD / "signals_production.parquet")
    assert table.num_rows == world().num_rows
    keys = list(
        zip(*(table[c].to_pylist() for c in ("session_date", "asof_ns", "observation_id")), strict=True)
    )
    assert keys == sorted(keys)


def test_a_changed_byte_is_refused_before_it_is_unpickled(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(root)
    entry = registry.champion(root, "direction_touch")
    file = root / entry["production"]["path"]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    monkeypatch.setattr(registry.joblib, "load", lambda _: pytest.fail("it was unpickled"))
    with pytest.raises(registry.AlteredModel, match="nothing of it was read"):
        registry.load(root, entry)
    monkeypatch.undo()
    promotion.rollback(root, 1)  # to what serves: mends it
    assert registry.load(root, entry)["head"] == "direction"


def test_a_model_of_other_features_is_refused(root: Path, judged_already: None) -> None:
    promote(root)
    with pytest.raises(registry.OtherFeatures, match="trained on features"):
        registry.load(root, registry.champion(root, "direction_touch"), "f" * 64)


# -- each defect has its gate ------------------------------------------------------------------------------------------


def refused(root: Path, name: str = ONE, **options: object) -> set[str]:
    """Promote, expect a refusal and nothing placed; the names of the gates that failed."""
    before = registry.read(root)
    with pytest.raises(promotion.PromotionRefused) as told:
        promote(root, name, **options)
    failed = {g.name for g in told.value.gates if not g.passed}
    assert all(f"{gate}:" in str(told.value) for gate in failed)
    assert registry.read(root) == before
    assert not (root / placing.GOLD / "signals_production.parquet").exists()
    return failed


def rebuilt(root: Path, table: pa.Table) -> None:
    """The same version with other rows, all dates tested."""
    shutil.rmtree(root / "lake" / "gold")
    landed(root, table)


def test_a_look_ahead_row_is_refused(root: Path) -> None:
    table = world()
    late = table["max_input_ts_ns"].to_numpy().copy()
    late[7] = table["asof_ns"].to_numpy()[7]
    rebuilt(root, put(table, "max_input_ts_ns", pa.array(late)))
    assert {"inputs_before_asof", "same_data"} == refused(root)


def test_a_look_ahead_column_is_refused(root: Path) -> None:
    table = world()
    rebuilt(root, put(table, "barrier_churn", table["strength_signed"].combine_chunks()))
    assert {"no_copied_label", "same_data"} == refused(root)


def test_a_missing_class_is_refused(root: Path) -> None:
    table = world()
    kept = pc.or_(pc.not_equal(table["outcome"], "BOUNCE"), pc.not_equal(table["stage"], "touch"))
    rebuilt(root, table.filter(kept))
    assert {"every_class", "same_data"} == refused(root)


def test_a_wrong_schema_is_refused(root: Path) -> None:
    table = world()
    rebuilt(root, put(table, "direction", pa.array(["SIDEWAYS"] * table.num_rows)))
    assert "schema" in refused(root)
    rebuilt(root, table.drop_columns(["theta_1"]))
    assert "schema" in refused(root)


def test_a_level_that_left_the_view_after_its_touch_is_not_unknown(root: Path) -> None:
    """Ten levels of book show the level at a touch; minutes later the price may be elsewhere."""
    table = world()
    values = table["barrier_delta_liq"].combine_chunks()
    stage = np.array(table["stage"].to_pylist())
    for place, wanted in (
        ("confirm_240", {"same_data"}),
        ("touch", {"same_data", "known_barrier_delta_liq"}),
    ):
        unknown = pa.array(stage == place)
        rebuilt(root, put(table, "barrier_delta_liq", pc.if_else(unknown, None, values)))
        assert wanted == refused(root)


def test_stale_data_is_refused(root: Path) -> None:
    rebuilt(root, world(seed=2))
    assert {"same_data"} == refused(root)


def test_too_few_events_are_refused(root: Path) -> None:
    assert {"events"} == refused(root, min_events=721)


def test_a_draft_a_failed_date_and_a_missing_audit_are_all_told(root: Path) -> None:
    metadata = root / "lake" / "silver" / "features" / VERSION / "_metadata"
    (metadata / "release.json").unlink()
    for record in metadata.glob("audit-*.json"):
        record.unlink()
    partition = next(iter(commits.read_partitions(root / "lake" / datasets.folder(VERSION)).values()))
    commits.mark(partition, False, "data tests failed: x", "20251216T200000Z_build_000000")
    assert {"released", "dates_ok", "perturb_the_future"} == refused(root)


def test_a_failed_audit_is_refused(root: Path) -> None:
    audited(root, passed=False, told="tape_velocity changed in 3 of 100 rows")
    assert {"perturb_the_future"} == refused(root)


@pytest.fixture(scope="module")
def rich(tmp_path_factory) -> Path:
    """Rows enough to tell that one who may look at the distance alone is worse than the champion."""
    root = tmp_path_factory.mktemp("rich")
    landed(root, world(touches=150))
    trained(root, ONE, stages=("touch",))
    trained(root, TWO, stages=("touch",), heads=("tradeable_2", "direction", "strength"))
    trained(root, "exp003_blind", stages=("touch",), features=("distance",))
    promote(root, ONE)
    return root


def test_who_is_worse_than_the_champion_is_refused(rich: Path) -> None:
    before = tree(rich)
    with pytest.raises(
        promotion.PromotionRefused, match="worse than exp001_tradeable_2_touch on the same rows"
    ):
        promote(rich, "exp003_blind")
    assert tree(rich) == before


def test_a_challenger_is_compared_and_serves_nothing_until_it_is_the_champion(
    rich: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(rich, tmp_path / "root")
    before = tree(root)
    done = promote(root, "exp003_blind", alias="challenger", notes="to watch")
    assert (done.state, done.experiment, done.dataset_version) == ("challenges", "exp003_blind", 1)
    assert promote(root, "exp003_blind", alias="challenger").state == "unchanged"
    assert tree(root) == before
    entry = registry.challenger(root, "tradeable_2_touch")
    assert (entry["model_id"], entry["status"]) == ("exp003_tradeable_2_touch", "candidate")
    assert entry["dataset_version"] is None
    told = entry["comparison"]
    assert (told["against"], told["wins"], told["holds"]) == ("exp001_tradeable_2_touch", False, False)
    assert told["primary"]["low"] > 0
    assert told["secondary"]["low"] > 0
    assert experiments.entry_of(root, "exp003")["comparison"] == told
    assert registry.load(root, entry)["model"]["booster"].startswith("tree")
    moved = registry.read(root)["history"][-1]
    assert (moved["alias"], moved["to"]) == ("challenger/tradeable_2_touch", "exp003_tradeable_2_touch")
    assert moved["reason"] == "challenge by exp003: to watch"

    # Another takes its place, and then that of the champion.
    promote(root, TWO, alias="challenger")
    assert registry.challenger(root, "tradeable_2_touch")["experiment_id"] == TWO
    assert promote(root, TWO).state == "promoted"
    now = registry.read(root)
    assert now["aliases"]["challenger"] == {}
    assert registry.champion(root, "strength_touch")["status"] == "production"
    assert {m["status"] for m in now["models"] if m["experiment_id"] == ONE} == {"archived"}
    promote(root, ONE, alias="challenger")
    assert registry.challenger(root, "direction_touch")["dataset_version"] == 1
    # Rolled back to, it serves, and challenges nobody.
    promotion.rollback(root)
    assert tree(root) == before
    assert registry.read(root)["aliases"]["challenger"] == {}


def test_a_challenger_is_withdrawn(rich: Path, tmp_path: Path) -> None:
    root = shutil.copytree(rich, tmp_path / "root")
    with pytest.raises(promotion.NothingToRollBack, match="no challenger to withdraw"):
        promotion.withdraw(root)
    promote(root, TWO, alias="challenger")
    done = promotion.withdraw(root, reason="too bold")
    assert (done.state, done.experiment) == ("withdrawn", TWO)
    now = registry.read(root)
    assert now["aliases"]["challenger"] == {}
    assert now["history"][-1]["reason"] == "withdrawn: too bold"
    with pytest.raises(registry.RegistryError, match="no model challenges for 'direction_touch'"):
        registry.challenger(root, "direction_touch")


def test_a_challenger_passes_the_gates_and_needs_a_champion(rich: Path, root: Path) -> None:
    with pytest.raises(promotion.NothingToChallenge, match="nothing serves yet"):
        promote(root, ONE, alias="challenger")
    with pytest.raises(promotion.NothingToChallenge, match="serves already"):
        promote(rich, ONE, alias="challenger")
    with pytest.raises(promotion.PromotionRefused, match="events: expected at least 99999"):
        promote(rich, TWO, alias="challenger", min_events=99_999)
    assert registry.read(rich)["aliases"]["challenger"] == {}


def test_what_was_promoted_is_not_replaced_by_another_of_its_name(rich: Path, tmp_path: Path) -> None:
    """A rollback would look for the model that was."""
    root = shutil.copytree(rich, tmp_path / "root")
    promote(root, TWO)
    with pytest.raises(experiments.ExperimentIsFinal, match="exp001_first was promoted"):
        trained(root, ONE, replace=True, stages=("touch",), seed=5)


def test_production_says_which_components_it_uses(rich: Path) -> None:
    stored = experiments.find(rich, ONE)
    (chosen,) = stored.metrics["components"]
    for name in ("tradeable_2_touch", "direction_touch"):
        used = registry.champion(rich, name)["components"]
        assert used == {k: chosen[k] for k in ("use_knn", "use_gate", "calibration")}


def test_without_skill_a_first_promotion_has_to_be_asked_for(tmp_path: Path) -> None:
    landed(tmp_path, world(planted=False, seed=3))
    trained(tmp_path, ONE)
    assert {"skill"} == refused(tmp_path)
    assert promote(tmp_path, accept_no_skill=True, notes="to try the path").state == "promoted"
    asked = [json.loads(p.read_text()) for p in (tmp_path / "_meta" / "runs").glob("*_promote_*.json")]
    assert sorted(run["config"]["accept_no_skill"] for run in asked) == [False, True]


def test_an_experiment_that_can_not_be_made_again_is_refused(root: Path) -> None:
    stored = experiments.find(root, ONE)
    metrics = json.loads((stored.path / "metrics.json").read_text())
    metrics["results"][0]["mean"]["model"]["brier"] += 1e-9
    atomic.write_json(stored.path / "metrics.json", metrics)
    assert {"reproducible"} == refused(root)


def test_an_unknown_experiment_is_told(root: Path) -> None:
    with pytest.raises(experiments.ExperimentError, match="expected one of exp001, exp002"):
        promote(root, "exp009")


# -- kills -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.long)])
def test_a_kill_at_any_instant_leaves_the_old_or_the_new(
    root: Path, tmp_path: Path, judged_already: None, every: int
) -> None:
    promote(root, ONE)
    old = tree(root)
    whole = shutil.copytree(root, tmp_path / "whole")
    promote(whole, TWO)
    new = tree(whole)
    work = tmp_path / "work"
    instants = count_instants(
        lambda: promote(shutil.copytree(root, tmp_path / "counted"), TWO), tmp_path / "instants"
    )
    assert instants > 50
    ends = set()
    for instant in range(0, instants, every):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(root, work)
        assert dies_at(lambda: promote(work, TWO), instant)
        serving = registry.read(work)["dataset"]["dataset_version"]
        ends.add(serving)
        with registry.locked(work):
            placing.finish(work)
        assert tree(work) == (old if serving == 1 else _but_times(work, new))
        again = promote(work, TWO)
        assert again.dataset_version == 2
        assert tree(work).keys() == new.keys()
    assert ends == {1, 2}


def _but_times(work: Path, new: dict[str, str]) -> dict[str, str]:
    """The manifest says when it was written: its hash is that of this run."""
    manifest = (work / placing.VERSIONS / "v=2" / "manifest.yaml").read_bytes()
    return {**new, "manifest.yaml": hashlib.sha256(manifest).hexdigest()}


def test_gates_name_what_they_measured() -> None:
    assert [f.name for f in dataclasses.fields(gates.Gate)] == ["name", "value", "why"]
