"""The report tells what was measured and no more: figures beside baselines, verdicts only where sessions allow."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import ml_worlds
import numpy as np
import pytest
from test_backtest import built, root  # noqa: F401 (fixtures)

from ml import backtest, experiments, model_card
from ml.report import charts, facts, page
from tests.unit.ml.promoted_worlds import contract, landed, trained, world

CONTRACTS = {ml_worlds.VERSION: contract()}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def evaluated(built, tmp_path_factory) -> Path:  # noqa: F811
    place = shutil.copytree(built, tmp_path_factory.mktemp("evaluated") / "root")
    backtest.evaluate(place, "exp001", contract=contract())
    return place


@pytest.fixture(scope="module")
def found(evaluated) -> list[facts.Experiment]:
    return facts.gather(evaluated, contracts=CONTRACTS)


class Reader(HTMLParser):
    """Tags that stand open and addresses that are named."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in ("meta", "line", "circle", "rect", "polyline") or self.get_starttag_text().endswith(
            "><title>"
        ):
            self.open.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "action") and v]

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_needs_nothing_from_elsewhere(found) -> None:
    text = page.page(found)
    reader = Reader()
    reader.feed(text)
    assert reader.addresses == []
    assert not re.search(r"https?:|@import|url\(|<script", text)
    assert reader.open == []


def test_every_part_is_there(found) -> None:
    text = page.page(found)
    for part in (
        "Side by side", "Skill against each baseline", "Reliability of tradeable_2 at touch",
        "Precision and recall of tradeable_2 at touch", "Share of gain", "Share of NULL", "Distribution of the outcome",
        "Drift of the last sessions", "Points earned at touch", "below the peak",
    ):  # fmt: skip
        assert part in text, part
    assert text.count("<h2>exp00") == 2
    assert "No backtest of it yet" in text  # the second was not evaluated


def test_too_few_sessions_stand_in_place_of_a_verdict(found) -> None:
    assert found[0].test_sessions < 10
    told = {found[0].verdict(h) for h in found[0].heads if h.pooled}
    assert told == {f"no claim: {found[0].test_sessions} test sessions, at least 10 are needed"}
    assert "better than its baselines" not in page.page(found)
    assert f"- no claim: {found[0].test_sessions} test sessions" in model_card.card(found[0])


def test_enough_sessions_get_a_verdict(tmp_path: Path) -> None:
    landed(tmp_path, world(sessions=24, touches=40))
    trained(tmp_path, "exp001_first", stages=("touch",))
    told = facts.gather(tmp_path, contracts=CONTRACTS)[0]
    assert told.may_claim
    by_head = {h.head: told.verdict(h) for h in told.heads}
    assert by_head["direction"] == "better than its baselines"
    assert "better than its baselines" in page.page([told])


def head(low: float, high: float, deflated: float | None = None) -> facts.Head:
    skill = {"base_rate": (low + high) / 2, "class_prior": (low + high) / 2}
    pooled = {"brier_skill": skill, "ci": {"brier_skill": {k: [low, high] for k in skill}}, "deflated": None}
    if deflated is not None:
        pooled["deflated"] = {"deflated": deflated, "tries": 9}
    return facts.Head("touch", "direction", pooled, None, [], [])


@pytest.mark.parametrize(
    ("low", "high", "deflated", "verdict"),
    [
        (0.01, 0.05, None, "better than its baselines"),
        (0.01, 0.05, 0.01, "better than its baselines"),
        (0.01, 0.05, -0.01, "better than its baselines, but not more than the best of 9 tries by luck"),
        (-0.01, 0.05, None, "no skill shown"),
        (0.0, 0.05, None, "no skill shown"),
        (-0.05, -0.01, None, "worse than a baseline"),
    ],
)
def test_verdicts_by_hand(found, low: float, high: float, deflated: float | None, verdict: str) -> None:
    import dataclasses  # noqa: PLC0415

    enough = dataclasses.replace(found[0], test_sessions=10)
    assert enough.verdict(head(low, high, deflated)) == verdict


def test_notes_can_not_become_tags(found) -> None:
    import dataclasses  # noqa: PLC0415

    odd = dataclasses.replace(found[0], notes="<script>alert(1)</script>", name="exp001_<b>")
    text = page.page([odd])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "exp001_<b>" not in text


def test_figures_are_those_of_the_experiment(evaluated, found) -> None:
    stored = experiments.stored_of(evaluated, "exp001")
    result = stored.metrics["results"][0]
    text = page.page(found)
    assert f"{result['pooled']['model']['brier']:.4f}" in text
    low, high = result["pooled"]["ci"]["brier_skill"]["base_rate"]
    assert f"[{low:.3f}, {high:.3f}]" in text
    rows = backtest.read(evaluated, "exp001")
    rows = rows.filter(
        backtest.pc.and_(backtest.pc.equal(rows["stage"], "touch"), backtest.pc.equal(rows["split"], "oof"))
    )
    equity = next(q for q in found[0].equities if q.stage == "touch")
    pnl = rows.sort_by([("asof_ns", "ascending"), ("observation_id", "ascending")])["pnl_points"].to_pylist()
    total = peak = deepest = 0.0
    for points in pnl:
        total += points
        peak = max(peak, total)
        deepest = max(deepest, peak - total)
    assert equity.points == pytest.approx(total)
    assert equity.drawdown_points == pytest.approx(deepest)
    assert equity.path[-1][1] == pytest.approx(total)


def test_precision_and_recall_by_hand() -> None:
    y, p, w = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.8, 0.1]), np.ones(4)
    assert facts.precision_recall(y, p, w) == [(0.5, 1.0), (1.0, pytest.approx(2 / 3)), (1.0, 0.5)]
    assert facts.precision_recall(np.zeros(3), np.arange(3.0), np.ones(3)) == []


def test_a_card_lists_data_split_scores_and_limits(evaluated, found) -> None:
    text = model_card.write(evaluated, found[0]).read_text()
    for part in ("## Data", "## Split", "## Scores", "## Backtest", "## Limits", found[0].dataset_digest):
        assert part in text
    assert all(f"| {h.name} |" in text for h in found[0].heads)


def test_a_table_that_changed_is_told(evaluated, tmp_path) -> None:
    place = shutil.copytree(evaluated, tmp_path / "root")
    ml_worlds.commit_gold(place, world(sessions=22, touches=30, seed=4))
    again = facts.gather(place, contracts=CONTRACTS)
    assert not again[0].is_current
    assert "has changed since" in page.page(again)
    assert again[0].nulls == again[0].drifts == []


def test_nothing_to_report_is_told(tmp_path: Path) -> None:
    with pytest.raises(experiments.ExperimentError, match="run `tickhouse train` first"):
        facts.gather(tmp_path)


@pytest.mark.parametrize("values", [[], [0.0], [1.0, 1.0], [-3.0, 5.0], [1e-6, 2e-6], [10.0, 90000.0]])
def test_axes_have_a_few_round_ticks(values: list[float]) -> None:
    ticks = charts._ticks(*charts._span(values))
    assert 2 <= len(ticks) <= 12
    assert ticks == sorted(ticks)


# -- in a browser ------------------------------------------------------------------------------------------------------

PROBE = """<script>addEventListener('load', () => {
  const wide = document.documentElement.scrollWidth, shown = document.documentElement.clientWidth;
  const colour = getComputedStyle(document.body).backgroundColor;
  const charts = [...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect());
  const drawn = charts.filter(r => r.width > 100 && r.height > 40).length;
  const cut = [...document.querySelectorAll('svg text')].filter(t => {
    const a = t.getBoundingClientRect(), b = t.ownerSVGElement.getBoundingClientRect();
    return a.left < b.left - 1 || a.right > b.right + 1 || a.bottom > b.bottom + 1;
  }).map(t => t.textContent);
  const pale = [...document.querySelectorAll('p, td, h2')].filter(e => {
    const s = getComputedStyle(e);
    return s.color === s.backgroundColor;
  }).length;
  document.title = JSON.stringify({overflow: wide - shown, colour, drawn, charts: charts.length, cut, pale});
});</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; apt-get install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_a_browser_shows_it_whole(found, tmp_path: Path, scheme: str, width: int) -> None:
    """Looked at from inside: nothing is wider than the window, every chart is drawn and no label of one is cut off."""
    import json  # noqa: PLC0415

    file = tmp_path / "report.html"
    file.write_text(page.page(found).replace("</body>", PROBE + "</body>"))
    shown = subprocess.run(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={'0' if scheme == 'dark' else '1'}", f"--window-size={width},900",
            "--virtual-time-budget=5000", "--dump-dom", file.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    told = json.loads(
        re.search(r"<title>(\{.*?\})</title>", shown.stdout, re.DOTALL)[1].replace("&quot;", '"')
    )
    assert told["overflow"] <= 0
    assert told["drawn"] == told["charts"] >= 10
    assert told["cut"] == []
    assert told["pale"] == 0
    dark = sum(int(c) for c in re.findall(r"\d+", told["colour"])) < 200
    assert dark == (scheme == "dark")
