"""What differs between two versions of a dataset, row by row and column by column, as JSON and as Markdown.

Only dates whose content digests differ are read. Source: spec/execution.md 8.2.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lake import active, atomic, commits, plan, views
from lake.code import is_lineage

MAX_ROWS = 1_000  # that are told one by one; all are counted
SHOWN_ROWS = 20


def compare(
    root: Path, dataset: str, nodes: Sequence[dict], versions: tuple[int, int], span: tuple[str, str]
) -> dict[str, Any]:
    """The differences of the datasets ``nodes`` from the first of two versions to the second."""
    import duckdb  # noqa: PLC0415

    report: dict[str, Any] = {
        "record_version": 1,
        "dataset": dataset,
        "from_version": versions[0],
        "to_version": versions[1],
        "start": span[0],
        "end": span[1],
        "made_at": commits.now_utc(),
        "datasets": [],
        "status_transitions": [],
        "net_pnl": None,
        "quarantine": [],
        "anomalies": [],
    }
    stage = root / "lake" / "_stage" / "spill"
    with duckdb.connect(config={"temp_directory": str(stage)}) as con:
        con.execute("set timezone = 'UTC'; set memory_limit = '1GB'")
        for node in nodes:
            report["datasets"].append(_dataset(con, root, node, versions))
            names = set(node["columns"])
            is_main = plan.dataset_folder(node) == active.DATASETS[dataset]
            if is_main and "status" in names:
                report["status_transitions"] = _transitions(con, node)
            if is_main and "net_pnl" in names:
                report["net_pnl"] = _net_pnl(con)
            if "failed_rules" in names:
                report["quarantine"] = _counts(con, "rule", "unnest(failed_rules)")
            if "anomaly_code" in names:
                report["anomalies"] = _counts(con, "code", "anomaly_code")
    return report


def _dataset(con: Any, root: Path, node: dict, versions: tuple[int, int]) -> dict[str, Any]:
    """Counts of one dataset; leaves the compared rows as the tables ``before`` and ``after``."""
    folder = plan.dataset_folder(node)
    found = [commits.read_partitions(root / "lake" / active.sibling(folder, v)) for v in versions]
    digests = [{key: p.commit.content_digest for key, p in parts.items()} for parts in found]
    differing = {k for k in digests[0].keys() | digests[1].keys() if digests[0].get(k) != digests[1].get(k)}
    for name, parts in zip(("before", "after"), found, strict=True):
        select = views.dataset_view(node, "date", False, [p for key, p in parts.items() if key in differing])
        con.execute(f"create or replace temp table {name} as {select}")
    key = plan.meta(node)["key"]
    columns = [n for n, c in node["columns"].items() if n not in key and not is_lineage(c)]
    columns += [] if "date" in node["columns"] else ["date"]
    on = " and ".join(f"b.{views.quote(k)} = a.{views.quote(k)}" for k in key)
    first = views.quote(key[0])
    differs = {c: f"b.{views.quote(c)} is distinct from a.{views.quote(c)}" for c in columns}
    is_added, is_removed = f"b.{first} is null", f"a.{first} is null"
    is_both = f"not {is_added} and not {is_removed}"
    joined = f"from before as b full outer join after as a on {on}"
    counts = ", ".join(f"count(*) filter ({is_both} and {test})" for test in differs.values())
    any_differs = " or ".join(differs.values()) or "false"
    row = con.execute(
        f"select count(*) filter ({is_added}), count(*) filter ({is_removed}), "
        f"count(*) filter ({is_both} and ({any_differs})){', ' if counts else ''}{counts} {joined}"
    ).fetchone()
    texts = ", ".join(f"{side}.{views.quote(c)}::varchar" for c in columns for side in ("b", "a"))
    keys = ", ".join(f"coalesce(b.{views.quote(k)}, a.{views.quote(k)})::varchar" for k in key)
    told = con.execute(
        f"select {keys}, case when {is_added} then 'added' when {is_removed} then 'removed' else 'changed' end"
        f"{', ' if texts else ''}{texts} {joined} "
        f"where {is_added} or {is_removed} or {any_differs} order by {keys} limit {MAX_ROWS}"
    ).fetchall()
    return {
        "dataset": folder,
        "dates_compared": sorted(date for _, date in differing),
        "rows_before": sum(p.commit.rows for p in found[0].values()),
        "rows_after": sum(p.commit.rows for p in found[1].values()),
        "added": row[0],
        "removed": row[1],
        "changed": row[2],
        "columns": {c: n for c, n in zip(columns, row[3:], strict=True) if n},
        "rows": [_told(key, columns, values) for values in told],
    }


def _told(key: list[str], columns: list[str], values: tuple) -> dict[str, Any]:
    names, change, texts = values[: len(key)], values[len(key)], values[len(key) + 1 :]
    pairs = {c: [texts[2 * i], texts[2 * i + 1]] for i, c in enumerate(columns)}
    return {
        "key": dict(zip(key, names, strict=True)),
        "change": change,
        "columns": {c: pair for c, pair in pairs.items() if change == "changed" and pair[0] != pair[1]},
    }


def _transitions(con: Any, node: dict) -> list[dict[str, Any]]:
    """How many rows of the compared dates went from which status to which; None is no row."""
    key = ", ".join(views.quote(k) for k in plan.meta(node)["key"])
    rows = con.execute(
        f"select b.status, a.status, count(*) from before as b full outer join after as a using ({key}) "
        "group by all order by all"
    ).fetchall()
    return [{"before": before, "after": after, "rows": count} for before, after, count in rows]


def _net_pnl(con: Any) -> dict[str, Any]:
    """Sums over the compared dates, as decimal text, and how many rows have none."""
    row = con.execute(
        "select coalesce(b.s, 0)::varchar, coalesce(a.s, 0)::varchar, (coalesce(a.s, 0) - coalesce(b.s, 0))::varchar, "
        "b.n, a.n from (select sum(net_pnl) as s, count(*) - count(net_pnl) as n from before) as b, "
        "(select sum(net_pnl) as s, count(*) - count(net_pnl) as n from after) as a"
    ).fetchone()
    return dict(zip(("before", "after", "difference", "null_before", "null_after"), row, strict=True))


def _counts(con: Any, name: str, expression: str) -> list[dict[str, Any]]:
    rows = con.execute(
        f"with b as (select {expression} as v from before), a as (select {expression} as v from after), "
        "counted as (select v, 1 as b, 0 as a from b union all select v, 0, 1 from a) "
        "select v, sum(b)::bigint, sum(a)::bigint from counted group by v order by v"
    ).fetchall()
    return [{name: v, "before": b, "after": a, "difference": a - b} for v, b, a in rows]


def write(folder: Path, report: dict[str, Any]) -> list[Path]:
    """Write ``diff.json`` and ``diff.md``; returns their paths."""
    atomic.make_dirs(folder)
    atomic.write_json(folder / "diff.json", report)
    atomic.write_text(folder / "diff.md", markdown(report))
    return [folder / "diff.json", folder / "diff.md"]


def markdown(report: dict[str, Any]) -> str:
    counted = ("rows_before", "rows_after", "added", "removed", "changed")
    sections: list[tuple[str, Sequence[str], list]] = [
        (
            "Datasets",
            ["dataset", "dates that differ", *(name.replace("_", " ") for name in counted)],
            [
                [d["dataset"], len(d["dates_compared"]), *(d[name] for name in counted)]
                for d in report["datasets"]
            ],
        ),
        (
            "Changed rows by column",
            ["dataset", "column", "rows"],
            [[d["dataset"], c, n] for d in report["datasets"] for c, n in d["columns"].items()],
        ),
        (
            "Status",
            ["before", "after", "rows"],
            [
                [r["before"] or "no row", r["after"] or "no row", r["rows"]]
                for r in report["status_transitions"]
            ],
        ),
    ]
    if pnl := report["net_pnl"]:
        sections.append(("Σ net_pnl", [*pnl], [[*pnl.values()]]))
    for title, name in (("Quarantine", "rule"), ("Anomalies", "code")):
        rows = [[*row.values()] for row in report[title.lower()]]
        sections.append((title, [name, "before", "after", "difference"], rows))
    told = [(d["dataset"], row) for d in report["datasets"] for row in d["rows"]]
    shown = [
        [name, row["change"], _text(row["key"]), _pairs(row["columns"])] for name, row in told[:SHOWN_ROWS]
    ]
    title = f"Rows, the first {len(shown)} of {len(told)} in diff.json"
    sections.append((title, ["dataset", "change", "key", "columns"], shown))
    lines = [
        f"# {report['dataset']}: version {report['from_version']} to {report['to_version']}",
        "",
        f"Computed again: {report['start']} up to {report['end']}, which is excluded. Counted over the dates that "
        "differ.",
        "",
    ]
    for title, names, rows in sections:
        if rows:
            lines += [f"## {title}", "", *_table(names, rows)]
    return "\n".join(lines).rstrip() + "\n"


def _pairs(columns: dict[str, list]) -> str:
    return "; ".join(f"{name}: {before} → {after}" for name, (before, after) in columns.items())


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    cells = [[str(c).replace("|", "\\|") for c in row] for row in rows]
    lines = [names, ["---"] * len(names), *cells]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def _text(key: dict[str, str]) -> str:
    return json.dumps(key, ensure_ascii=False)[1:-1]
