"""The null checks find the planted effect and, where there is none, nothing (spec/market.md 14.4)."""

import ml_worlds
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml import checks, datasets, training

SESSIONS = 40
CONFIG = training.Config(max_rounds=60, stopping_rounds=10, bootstrap_draws=1_000)


def world(planted, seed, **more):
    return datasets.check(
        ml_worlds.gold(SESSIONS, 40, planted=planted, seed=seed, **more), ml_worlds.contract()
    )


@pytest.fixture(scope="module")
def planted():
    return world(True, 1)


@pytest.fixture(scope="module")
def null():
    return world(False, 1)


def test_the_planted_effect_is_found_by_its_feature(planted):
    findings = checks.check_planted(planted, CONFIG)
    assert [(f.stage, f.head) for f in findings] == [("touch", "direction"), ("confirm_240", "direction")]
    for f in findings:
        assert f.passed, f
        assert f.ci_low > 0.55
        assert f.sessions == 25
        assert "barrier_state" in f.reason


def test_the_planted_check_fails_without_the_effect_or_without_the_feature(planted, null):
    assert not any(f.passed for f in checks.check_planted(null, CONFIG))
    blamed_elsewhere = checks.check_planted(planted, CONFIG, planted={"gamma_exposure"})
    assert not any(f.passed for f in blamed_elsewhere)
    assert "none" in blamed_elsewhere[0].reason


def test_a_null_world_shows_nothing_and_a_planted_one_fails_as_null(planted, null):
    findings = checks.check_null(null, CONFIG)
    assert len(findings) == 4
    assert all(f.passed for f in findings), findings
    assert not any(f.passed for f in checks.check_null(planted, CONFIG) if f.head == "direction")


def test_permuted_labels_of_a_planted_world_show_nothing(planted):
    findings = checks.check_permuted(planted, CONFIG)
    assert [f.score for f in findings] == ["roc_auc_within"] * 4
    assert all(f.passed for f in findings), findings


def test_a_permutation_keeps_rows_whole_and_strata_as_they_were(planted):
    shuffled = checks.permuted(planted, seed=3)
    before, after = planted.table, shuffled.table
    moved = {c for c in before.column_names if not before[c].equals(after[c])}
    assert moved <= set(checks.OUTCOMES)
    assert {"outcome", "tradeable_2", "time_to_break_2"} <= moved
    assert pc.all(pc.equal(pc.equal(after["tradeable_2"], 1), pc.not_equal(after["outcome"], "CHOP"))).as_py()
    key = ["stage", "session_date", "level_kind_name", "outcome"]
    counts = [
        t.group_by(key).aggregate([([], "count_all")]).sort_by([(k, "ascending") for k in key])
        for t in (before, after)
    ]
    assert counts[0].equals(counts[1])
    assert checks.permuted(planted, seed=3).table.equals(after)
    assert not checks.permuted(planted, seed=4).table.equals(after)


def test_a_permutation_is_uniform_within_its_stratum():
    table = world(False, 2, stages=("touch",))
    one = table.table.filter(pc.equal(table.table["level_kind_name"], "VWAP"))
    y = one["tradeable_2"].to_numpy()
    session = datasets.session_dates(one)
    share = np.array([y[session == s].mean() for s in session])
    draws = [checks.permuted(datasets.TrainingTable(one, table.contract), seed=s).table for s in range(300)]
    mean = np.mean([d["tradeable_2"].to_numpy() for d in draws], axis=0)
    assert np.abs(mean - share).max() < 0.15  # five standard errors of 300 draws


def test_a_rate_that_differs_by_level_kind_is_no_finding(null):
    """Permuting keeps each kind's rate, so a pooled AUC would call a kind's rate an effect; the judged one
    must not.
    """
    rng = np.random.default_rng(1)
    rate = np.array(
        [
            0.25 if k in ("ROUND", "VWAP", "SMA_200") else 0.8
            for k in null.table["level_kind_name"].to_pylist()
        ]
    )
    tradeable = rng.random(null.table.num_rows) < rate
    rows = null.table
    for name, values in (
        ("tradeable_2", pa.array(tradeable.astype(np.int8))),
        (
            "outcome",
            pa.array(np.where(tradeable, np.where(rng.random(len(rate)) < 0.5, "BREAK", "BOUNCE"), "CHOP")),
        ),
    ):
        rows = rows.set_column(rows.column_names.index(name), name, values)
    table = datasets.TrainingTable(rows, null.contract)
    config = training.Config(max_rounds=60, stopping_rounds=10, heads=("tradeable_2",), stages=("touch",))
    (finding,) = checks.check_permuted(table, config)
    assert finding.passed, finding
    assert not checks.check_null(checks.permuted(table, 42), config)[0].passed


def test_a_head_that_cannot_be_trained_proves_nothing(null):
    few = null.table.filter(pc.equal(null.table["level_kind_name"], "PM_LOW"))
    few = datasets.TrainingTable(few.filter(pc.equal(few["direction"], "UP")), null.contract)
    findings = checks.check_null(few, CONFIG)
    direction = [f for f in findings if f.head == "direction"]
    assert len(direction) == 2
    assert all(f.value is None and not f.passed and "expected at least 30" in f.reason for f in direction)
