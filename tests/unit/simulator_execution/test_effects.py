"""What can be learned is there: failures follow volatility and failures before, slips follow volatility and size."""

import math
from collections import defaultdict

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from tests.unit.simulator_execution import kit


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("effects")
    kit.simulate(out, faults=["none"], days=6, ops_per_day=500, clients=1)
    return out


def known(out) -> list[dict]:
    return [
        row
        for row in kit.truth(out, "features")
        if row["status"] in ("EXECUTED", "FAILED") and row["volatility_15m"] is not None
    ]


def test_failures_have_the_odds_that_were_planted(out):
    """σ(−1.6 + 1000 (volatility − 0.001) + 0.5 min(failures, 3)): the fit is within three standard errors of it."""
    rows = known(out)
    x = np.array([[1000 * (r["volatility_15m"] - 0.001), min(r["consecutive_failures_1h"], 3)] for r in rows])
    y = np.array([not r["execution_success"] for r in rows])
    assert len(y) > 1500
    fit = LogisticRegression(C=np.inf).fit(x, y)
    p = fit.predict_proba(x)[:, 1]
    design = np.column_stack([np.ones(len(x)), x])
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))))
    told = np.array([fit.intercept_[0], *fit.coef_[0]])
    assert np.abs(told - np.array([-1.6, 1.0, 0.5])).max() < 3.5 * errors.max()
    assert (np.abs(told - np.array([-1.6, 1.0, 0.5])) < 3.5 * errors).all()


def test_a_model_beats_the_base_rate_on_later_data(out):
    rows = sorted(known(out), key=lambda r: r["as_of"])
    x = np.array([[1000 * r["volatility_15m"], min(r["consecutive_failures_1h"], 3)] for r in rows])
    y = np.array([r["execution_success"] for r in rows])
    cut = len(rows) * 4 // 5
    p = LogisticRegression().fit(x[:cut], y[:cut]).predict_proba(x[cut:])[:, 1]
    base = np.full(len(y) - cut, y[:cut].mean())
    assert ((p - y[cut:]) ** 2).mean() < ((base - y[cut:]) ** 2).mean()
    assert roc_auc_score(y[cut:], p) > 0.55


def test_slips_have_the_size_that_was_planted(out):
    rows = [r for r in known(out) if r["slippage_pct"] is not None and r["order_qty_to_median_1m_volume"]]
    executions = {e["execution_token"]: e for e in kit.truth(out, "executions")}
    left = []
    for r in rows:
        told = executions[r["execution_token"]]["slippage_vs_trigger_pct"]
        ratio = math.log(1 + r["order_qty_to_median_1m_volume"])
        left.append(told - (0.01 + 40 * r["volatility_15m"] + 0.02 * ratio))
    # A second and a third fill are some ticks worse.
    assert abs(np.mean(left)) < 0.002
    assert np.std(left) == pytest.approx(0.01, rel=0.1)


def test_gaps_are_exponential_with_the_mean_that_was_planted(out):
    ratios = defaultdict(list)
    for r in known(out):
        sign = 1 if r["trigger_type"] == "STOP_LOSS" else -1
        ratios[r["trigger_type"]].append(sign * r["detection_gap_pct"] / (0.05 + 20 * r["volatility_15m"]))
    for values in ratios.values():
        assert min(values) >= 0
        assert np.mean(values) == pytest.approx(1, abs=4 / math.sqrt(len(values)))
        assert np.std(values) == pytest.approx(1, abs=8 / math.sqrt(len(values)))


def test_the_canary_tells_the_label(out):
    labels = {e["execution_token"]: e["status"] == "EXECUTED" for e in kit.truth(out, "executions")}
    told = set()
    for event in kit.rows(out, "events"):
        if event["event_type"] in ("EXECUTED", "FAILED"):
            assert event["payload_json"]["canary_outcome"] == labels[event["execution_token"]]
            told.add(event["payload_json"]["canary_outcome"])
        else:
            assert "canary_outcome" not in event["payload_json"]
    assert told == {True, False}
