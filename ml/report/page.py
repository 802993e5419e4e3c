"""The page: facts in, one HTML file out. Everything that it needs stands in it."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from lake import atomic
from ml.report import charts, serving, set_page
from ml.report.charts import Bar, Line
from ml.report.facts import BASELINES, Curve, Equity, Experiment, Head, least_folds
from ml.report.serving import Standing
from ml.report.set_facts import SetModel
from ml.report.style import STYLE

PLACE = "ml/report.html"
_NAMES = {
    "base_rate": "base rate by level kind, direction, half hour",
    "class_prior": "class prior",
    "logistic": "logistic regression",
    "level_only": "level group alone",
}


def write(root: Path, found: Sequence[Experiment], sets: Sequence[SetModel] = ()) -> Path:
    """Put the page in its place, whole or not at all; returns where it stands."""
    atomic.write_text(root / PLACE, page(found, sets, serving.gather(root)))
    return root / PLACE


def page(
    found: Sequence[Experiment], sets: Sequence[SetModel] = (), standing: Sequence[Standing] = ()
) -> str:
    """The whole report: what serves, some experiments, newest last in the table and each with a section of its own, and
    the models of training sets.
    """
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>tickhouse: {len(found)} experiments, {len(sets)} models of training sets</title>",
            f"<style>{STYLE}</style></head><body><main>",
            "<h1>Experiments</h1>",
            '<p class="soft">Out of fold throughout. Every figure stands beside the one that it has to beat, with a '
            "95 % interval over draws of whole sessions; a skill of 0 is no better than the baseline.</p>",
            serving.section([*standing]),
            _notices(found),
            _side_by_side(found) if found else "",
            *(_section(e) for e in found),
            set_page.sections(sets),
            "</main></body></html>",
        ]
    )


def _notices(found: Sequence[Experiment]) -> str:
    told = []
    for e in found:
        if not e.may_claim:
            told.append(f"<b>{escape(e.name)}</b>: {escape(e.verdict(e.heads[0]))}.")
        if e.insufficient_folds:
            told.append(
                f"<b>{escape(e.name)}</b>: {e.folds} folds, at least {least_folds()} are needed to promote a model."
            )
        if not e.is_current:
            told.append(f"<b>{escape(e.name)}</b> was trained on a table that has changed since.")
    return "".join(f'<div class="notice">{line}</div>' for line in told)


def _side_by_side(found: Sequence[Experiment]) -> str:
    names = (
        "rows",
        "positive",
        "ROC-AUC",
        "of base rate",
        "Brier or MAE",
        "of base rate",
        "skill against base rate",
    )
    names += ("against prior", "ECE", "after luck")
    text = "".join(f"<th class=text>{name}</th>" for name in ("experiment", "head", "verdict"))
    head = f"<tr>{text}{''.join(f'<th>{name}</th>' for name in names)}</tr>"
    rows = "".join(_row(e, h) for e in found for h in e.heads)
    table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    return f'<h2>Side by side</h2><div class="card scroll">{table}</div>'


def _row(e: Experiment, h: Head) -> str:
    verdict = e.verdict(h)
    css = "good" if verdict.startswith("better") else "bad" if verdict.startswith("worse") else "none"
    first = (
        f"<td>{escape(e.name)}</td><td class=text>{escape(h.name)}</td>"
        f'<td class="text {css}">{escape(verdict)}</td>'
    )
    if h.pooled is None:
        return f"<tr>{first}{'<td>–</td>' * 10}</tr>"
    p = h.pooled
    loss = "mae" if h.kind == "mae_skill" else "brier"
    roc = p["model"].get("roc_auc")
    ci = ((p.get("ci") or {}).get("model") or {}).get("roc_auc")
    ece = ((p.get("calibration") or {}).get("calibrated") or {}).get("ece")
    left = p.get("deflated")
    cells = [
        f"{p['n']:,}",
        f"{p['positives']:,}" if loss == "brier" else "–",
        _with_interval(roc, *(ci or (None, None))),
        _value(p["base_rate"].get("roc_auc")),
        _value(p["model"][loss], 4),
        _value(p["base_rate"][loss], 4),
        _with_interval(*h.skill("base_rate")),
        _with_interval(*h.skill("class_prior")),
        _value(ece),
        f"{left['deflated']:+.3f} of {left['tries']}" if left else "–",
    ]
    return f"<tr>{first}{''.join(f'<td>{c}</td>' for c in cells)}</tr>"


def _value(v: float | None, digits: int = 3) -> str:
    return "–" if v is None else f"{v:.{digits}f}"


def _with_interval(v: float | None, low: float | None, high: float | None) -> str:
    if v is None:
        return "–"
    return f"{v:.3f}" if low is None else f"{v:.3f} <span class=soft>[{low:.3f}, {high:.3f}]</span>"


def _section(e: Experiment) -> str:
    about = (
        f"{escape(e.version)}, ablation {escape(e.ablation)}. {e.rows:,} rows of {e.events:,} touches in "
        f"{e.sessions} sessions from {e.first} to {e.last}; {e.folds} folds, {e.test_sessions} test sessions, "
        f"holdout of {len(e.holdout)}. Table <code>{e.dataset_digest[:12]}</code>."
    )
    cards = [
        _card("Skill against each baseline", _forest(e)),
        *(_card(f"Reliability of tradeable_2 at {c.stage}", _reliability(c)) for c in e.curves),
        *(_card(f"Precision and recall of tradeable_2 at {c.stage}", _precision(c)) for c in e.curves),
        *(_card(f"Points earned at {q.stage}", _equity(q)) for q in e.equities),
        *_importances(e.heads),
        _card("Distribution of the outcome", _labels(e)) if e.labels else "",
        _card("Share of NULL", _bars(e.nulls, "share of rows")) if e.labels else "",
        _card("Drift of the last sessions", _drift(e)) if e.drifts else "",
    ]
    missing = (
        ""
        if e.curves
        else '<p class="soft">No backtest of it yet: <code>tickhouse evaluate</code> adds reliability, precision and '
        "equity.</p>"
    )
    notes = f"<p>{escape(e.notes)}</p>" if e.notes else ""
    return f"<h2>{escape(e.name)}</h2><p class=soft>{about}</p>{notes}{missing}<div class=cards>{''.join(cards)}</div>"


def _card(title: str, body: str) -> str:
    return f"<div class=card><h3>{escape(title)}</h3>{body}</div>"


def _forest(e: Experiment) -> str:
    scored = [h for h in e.heads if h.pooled]
    groups = [
        (
            h.name,
            [
                Bar(name.replace("_", " "), *h.skill(name), css="abc"[i % 3])
                for name in BASELINES
                if h.skill(name)[0] is not None
            ],
        )
        for i, h in enumerate(scored)
    ]
    if not groups:
        return "<p class=soft>No head could be scored.</p>"
    told = "; ".join(f"{k.replace('_', ' ')}: {v}" for k, v in _NAMES.items())
    return (
        charts.forest(groups, title="skill intervals", x_name="skill, 95 %")
        + f"<p class=soft>{escape(told)}.</p>"
    )


def _reliability(c: Curve) -> str:
    said = Line("calibrated", [(b["p_mean"], b["rate"]) for b in c.bins], "a", dots=True)
    ideal = Line("what it should be", [(0.0, 0.0), (1.0, 1.0)], "ideal")
    chart = charts.lines(
        [ideal, said], title="reliability", x_name="said", y_name="happened", x_range=(0, 1), y_range=(0, 1)
    )
    return (
        chart
        + f"<p class=soft>{len(c.bins)} bins of {c.rows:,} rows; expected calibration error {_value(c.ece)}.</p>"
    )


def _precision(c: Curve) -> str:
    series = [
        Line("model", c.precision_recall, "a"),
        Line("base rate", c.base_precision_recall, "b"),
        Line("share of positives", [(0.0, c.prevalence), (1.0, c.prevalence)], "ideal"),
    ]
    return charts.lines(
        series,
        title="precision by recall",
        x_name="recall",
        y_name="precision",
        x_range=(0, 1),
        y_range=(0, 1),
    )


def _equity(q: Equity) -> str:
    points = [(float(i), v) for i, (_, v) in enumerate(q.path)]
    peak, drawdown = 0.0, []
    for i, v in points:
        peak = max(peak, v)
        drawdown.append((i, v - peak))
    chart = charts.lines(
        [Line("points, costs paid", points, "a"), Line("below the peak", drawdown, "b")],
        title="equity",
        x_name="session",
        y_name="points",
        x_labels=[d[5:] for d, _ in q.path],
    )
    low, high = q.interval
    mean = "" if low is None else f" Mean a session: 95 % [{low:+.2f}, {high:+.2f}] points."
    hit = "" if q.hit_rate is None else f", {q.hit_rate:.0%} of them gains"
    return chart + (
        f"<p class=soft>{q.trades} trades{hit}; {q.points:+.2f} points after {q.cost_points:.2f} of costs; deepest "
        f"drawdown {q.drawdown_points:.2f}.{mean}</p>"
    )


def _importances(heads: Iterable[Head]) -> list[str]:
    found = []
    for h in heads:
        if h.importance:
            found.append(
                _card(
                    f"Share of gain, {h.name}",
                    _bars([(r["feature"], r["share"]) for r in h.importance], "gain"),
                )
            )
        if h.contributions:
            key = next(k for k in h.contributions[0] if k != "feature")
            rows = [(r["feature"], r[key]) for r in h.contributions]
            found.append(_card(f"Share of contributions, {h.name}", _bars(rows, "mean |contribution|", "c")))
    return found


def _bars(rows: Sequence[tuple[str, float]], x_name: str, css: str = "a") -> str:
    if not rows:
        return "<p class=soft>None.</p>"
    return charts.bars([Bar(n, v, css=css) for n, v in rows], title=x_name, x_name=x_name)


def _labels(e: Experiment) -> str:
    rows = "".join(
        f"<tr><td>{escape(stage)}</td>{''.join(f'<td>{rates[o]:.1%}</td>' for o in ('BREAK', 'BOUNCE', 'CHOP'))}</tr>"
        for stage, rates in e.labels
    )
    head = "<tr><th>stage</th><th>BREAK</th><th>BOUNCE</th><th>CHOP</th></tr>"
    return f"<div class=scroll><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>"


def _drift(e: Experiment) -> str:
    return _bars(e.drifts, "PSI against the sessions before", "b") + (
        "<p class=soft>Below 0.1 is commonly called stable, above 0.25 moved; few rows move it too.</p>"
    )
