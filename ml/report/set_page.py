"""The part of the page about models of training sets. Execution has no backtest: there is no equity to show."""

from collections.abc import Sequence
from html import escape

from ml.report import charts
from ml.report.charts import Bar, Line
from ml.report.set_facts import Score, SetModel, Target


def sections(found: Sequence[SetModel]) -> str:
    """A table of all of them, then a section each; empty without one."""
    if not found:
        return ""
    return "\n".join([_side_by_side(found), *(_section(m) for m in found)])


def _side_by_side(found: Sequence[SetModel]) -> str:
    text = "".join(f"<th class=text>{n}</th>" for n in ("training set", "label", "verdict"))
    names = ("loss", "against", "rows", "model", "baseline", "saves", "ROC-AUC")
    head = f"<tr>{text}{''.join(f'<th>{n}</th>' for n in names)}</tr>"
    rows = "".join(_rows(m, t) for m in found for t in m.targets)
    table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    return f'<h2>Models of training sets</h2><div class="card scroll">{table}</div>'


def _rows(m: SetModel, t: Target) -> str:
    css = "good" if t.verdict.startswith("better") else "bad" if t.verdict.startswith("worse") else "none"
    model = {s.loss: s.value for s in t.scores if s.predictor == "model"}
    auc = "–" if t.auc is None else _with_interval(t.auc, *t.auc_interval)
    found = []
    for s in t.scores:
        if s.predictor not in ("model", "calibrated") and s.loss in ("brier", "mae"):  # the charts have all
            cells = (
                s.loss,
                s.predictor.replace("_", " "),
                f"{m.rows_test:,}",
                _number(model[s.loss]),
                _number(s.value),
            )
            told = [*map(escape, cells), _with_interval(s.saves, s.low, s.high), auc]
            found.append(
                f"<tr><td>{escape(m.title)}</td><td class=text>{escape(t.name)}</td>"
                f'<td class="text {css}">{escape(t.verdict)}</td>{"".join(f"<td>{c}</td>" for c in told)}</tr>'
            )
    return "".join(found)


def _section(m: SetModel) -> str:
    about = (
        f"{m.rows_train:,} rows to train, {m.rows_test:,} to test on {m.test_days} days, of {m.first} to {m.last}. "
        f"Samples <code>{m.dataset_hash[:12]}</code>."
    )
    notices = [] if m.is_current else ["It was trained on samples that have changed since."]
    notices += m.remarks
    cards = [card for t in m.targets for card in _cards(t)]
    cards.append(_card("Share of NULL", _bars(m.nulls, "share of rows", "a")))
    cards.append(
        _card(
            "Drift from train to test",
            _bars(m.drifts, "PSI against the rows of train", "b")
            + "<p class=soft>Below 0.1 is commonly called stable, above 0.25 moved; few rows move it too.</p>",
        )
    )
    told = "".join(f'<div class="notice">{escape(line)}</div>' for line in notices)
    return f"<h2>{escape(m.title)}</h2><p class=soft>{about}</p>{told}<div class=cards>{''.join(cards)}</div>"


def _cards(t: Target) -> list[str]:
    cards = [_card(f"What {t.name} saves of each baseline's loss", _forest(t.scores))]
    if t.bins:
        cards.append(_card(f"Reliability of {t.name}", _reliability(t)))
    if t.reached:
        cards.append(_card(f"Reliability of the quantiles of {t.name}", _quantiles(t)))
    if t.contributions:
        cards.append(_card(f"Contributions to {t.name}", _bars(t.contributions, "mean |contribution|", "c")))
    cards.append(_card(f"Distribution of {t.name}", _labels(t)))
    return cards


def _card(title: str, body: str) -> str:
    return f"<div class=card><h3>{escape(title)}</h3>{body}</div>"


def _forest(scores: Sequence[Score]) -> str:
    losses = [*dict.fromkeys(s.loss for s in scores)]
    groups = [
        (
            loss.replace("_", " "),
            [
                Bar(s.predictor.replace("_", " "), s.saves, s.low, s.high, css="abc"[i % 3])
                for s in scores
                if s.loss == loss and s.saves is not None
            ],
        )
        for i, loss in enumerate(losses)
    ]
    return charts.forest(groups, title="what the model saves", x_name="1 − loss / baseline's loss, 95 %")


def _reliability(t: Target) -> str:
    said = Line("calibrated", [(b["p_mean"], b["rate"]) for b in t.bins], "a", dots=True)
    ideal = Line("what it should be", [(0.0, 0.0), (1.0, 1.0)], "ideal")
    chart = charts.lines(
        [ideal, said], title="reliability", x_name="said", y_name="happened", x_range=(0, 1), y_range=(0, 1)
    )
    rows = sum(int(b["n"]) for b in t.bins)
    error = "–" if t.ece is None else f"{t.ece:.3f}"
    return (
        chart + f"<p class=soft>{len(t.bins)} bins of {rows:,} rows; expected calibration error {error}.</p>"
    )


def _quantiles(t: Target) -> str:
    said = Line("share of test rows at or below", t.reached, "a", dots=True)
    ideal = Line("what it should be", [(0.0, 0.0), (1.0, 1.0)], "ideal")
    chart = charts.lines(
        [ideal, said], title="quantiles", x_name="quantile", y_name="reached", x_range=(0, 1), y_range=(0, 1)
    )
    told = "; ".join(f"{share:.1%} at or below the {q:.0%} quantile" for q, share in t.reached)
    return chart + f"<p class=soft>{told}.</p>"


def _bars(rows: Sequence[tuple[str, float]], x_name: str, css: str) -> str:
    if not rows:
        return "<p class=soft>None.</p>"
    return charts.bars([Bar(n, v, css=css) for n, v in rows], title=x_name, x_name=x_name)


def _labels(t: Target) -> str:
    shown = "{:.1%}" if t.bins else "{:.4g}"
    head = "".join(f"<th>{escape(n)}</th>" for n in t.label_names)
    rows = "".join(
        f"<tr><td>{split}</td>{''.join(f'<td>{shown.format(v)}</td>' for v in values)}</tr>"
        for split, values in t.labels
    )
    what = "Share of rows." if t.bins else "Quantiles of the label, in its unit."
    table = f"<table><thead><tr><th>split</th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<div class=scroll>{table}</div><p class=soft>{what}</p>"


def _number(v: float) -> str:
    return f"{v:.4g}"


def _with_interval(v: float | None, low: float | None, high: float | None) -> str:
    if v is None:
        return "–"
    return f"{v:.3f}" if low is None else f"{v:.3f} <span class=soft>[{low:.3f}, {high:.3f}]</span>"
