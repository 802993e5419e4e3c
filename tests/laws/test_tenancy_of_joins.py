"""Every model of the execution domain carries its tenant, and every join and window between tenants' rows is by it.

Read from the compiled SQL. Source: spec/execution.md 8.3.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlglot import exp, parse_one
from sqlglot.optimizer.scope import Scope, build_scope

# Of the public market, or of time alone: these have no tenant.
MARKET = {
    "stg_binance__agg_trades", "stg_binance__klines", "int_market_bars__tape", "int_market_bars__tape_gaps",
    "market_bars_1m", "data_through", "stg_execution__sealed_windows",
    # what the market did before a minute: whose trigger asked for the minute stands nowhere in it
    "int_stop_triggers__windows", "int_stop_triggers__moves",
}  # fmt: skip
TENANT = "client_id"


def execution_models(models: dict[str, Any]) -> dict[str, dict]:
    """Silver, gold and analytics of the domain by name; monitors sum over all tenants, for whoever runs the lake."""
    return {
        node["name"]: node
        for node in models.values()
        if "execution" in node["fqn"] and not node["name"].startswith(("int_market_bars__", "training_sets_"))
    }


def carriers(manifest: dict[str, Any]) -> set[str]:
    """Relations that have a client_id: models and sources."""
    nodes = [*manifest["nodes"].values(), *manifest["sources"].values()]
    return {n.get("alias") or n["name"] for n in nodes if TENANT in n.get("columns", {})}


class Tenants:
    """What of a query carries a tenant: relations by name, steps by what they select."""

    def __init__(self, relations: set[str]) -> None:
        self.relations = relations
        self._seen: dict[int, bool] = {}

    def of(self, source: exp.Table | Scope) -> bool:
        if isinstance(source, exp.Table):
            return source.name in self.relations
        if id(source) not in self._seen:
            self._seen[id(source)] = False
            self._seen[id(source)] = self._selects(source)
        return self._seen[id(source)]

    def _selects(self, scope: Scope) -> bool:
        if scope.union_scopes:
            return any(self.of(part) for part in scope.union_scopes)
        for column in scope.expression.selects:
            if column.alias_or_name == TENANT:
                return True
            if column.is_star:
                table = column.table if isinstance(column, exp.Column) else ""
                if any(self.of(s) for name, (_, s) in scope.selected_sources.items() if table in ("", name)):
                    return True
        return False


def violations(sql: str, relations: set[str]) -> Iterator[str]:
    """Sentences: a join of two tenants' rows that isn't by client_id, or a window over several tenants' rows."""
    tenants = Tenants(relations)
    root = build_scope(parse_one(sql, dialect="duckdb"))
    for scope in root.traverse():
        select = scope.expression
        if not isinstance(select, exp.Select):
            continue
        held = {name: tenants.of(source) for name, (_, source) in scope.selected_sources.items()}
        selected = [
            s.alias_or_name for s in [select.args.get("from_") or select.args.get("from")] if s is not None
        ]
        before = {name for name in selected if held.get(name)}
        for join in select.args.get("joins") or ():
            name = join.alias_or_name
            if held.get(name):
                if before and not _is_by_tenant(join, name, before):
                    yield f"join of {name} with {', '.join(sorted(before))}: {join.sql(dialect='duckdb')[:160]}"
                before.add(name)
        if not before:
            continue
        for window in scope.find_all(exp.Window):
            if window.arg_key == "windows":  # a named one counts where it is used
                continue
            parts = window.args.get("partition_by") or _named(select, window)
            if not any(isinstance(p, exp.Column) and p.name == TENANT for p in parts):
                yield f"window: {window.sql(dialect='duckdb')[:160]}"


def _named(select: exp.Select, window: exp.Window) -> list:
    """Partition of the named window that this one refers to."""
    name = window.alias or (window.args.get("alias").name if window.args.get("alias") else "")
    for given in select.args.get("windows") or ():
        if given.name == name:
            return given.args.get("partition_by") or []
    return []


def _is_by_tenant(join: exp.Join, name: str, before: set[str]) -> bool:
    if any(column.name == TENANT for column in join.args.get("using") or ()):
        return True
    on = join.args.get("on")
    for equal in on.find_all(exp.EQ) if on else ():
        sides = (equal.left, equal.right)
        if all(isinstance(side, exp.Column) and side.name == TENANT for side in sides):
            tables = {side.table for side in sides}
            if name in tables and tables & before:
                return True
    return False


def test_every_model_carries_its_tenant(models):
    lacking = {n for n, node in execution_models(models).items() if TENANT not in node["columns"]}
    assert lacking <= MARKET
    assert MARKET - {"int_market_bars__tape", "int_market_bars__tape_gaps"} <= set(execution_models(models))


def test_a_tenant_is_never_null(models):
    types = {
        n: node["columns"].get(TENANT, {}).get("data_type") for n, node in execution_models(models).items()
    }
    assert {t for n, t in types.items() if n not in MARKET} == {"bigint"}


# An event is told by its event_id alone (3.2), and a token under two clients is what TENANT_MISMATCH is about: the
# fold has to see both. `test_tenancy_of_rows` holds that it mixes nothing else.
ACROSS = {
    "stg_execution__stop_events", "int_stop_events__spread", "int_stop_events__terminals",
    "int_stop_events__contested",
}  # fmt: skip


def test_joins_and_windows_are_within_a_tenant(models, manifest):
    relations = carriers(manifest)
    found = [
        f"{name}: {sentence}"
        for name, node in execution_models(models).items()
        if node["language"] == "sql" and name not in ACROSS
        for sentence in violations(node["compiled_code"], relations)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("sql", "is_wrong"),
    [
        ("select a.client_id from s.x as a join s.y as b on a.client_id = b.client_id and a.k = b.k", False),
        ("select a.client_id from s.x as a join s.y as b on a.k = b.k", True),
        ("select a.client_id from s.x as a, s.y as b where a.k = b.k", True),
        ("select a.client_id from s.x as a join s.market as b on a.k = b.k", False),
        ("with y as (select * from s.y) select x.client_id from s.x as x join y on x.k = y.k", True),
        ("with y as (select k from s.y) select x.client_id from s.x as x join y on x.k = y.k", False),
        (
            "select x.k from s.x as x asof left join s.y as y on x.client_id = y.client_id and x.t >= y.t",
            False,
        ),
        ("select x.k from s.x as x asof left join s.y as y on x.k = y.k and x.t >= y.t", True),
        ("select lag(k) over (partition by client_id order by t) from s.x", False),
        ("select lag(k) over (partition by k order by t) from s.x", True),
        ("select lag(k) over w from s.x window w as (partition by client_id order by t)", False),
        ("select lag(k) over w from s.x window w as (partition by k order by t)", True),
        ("select lag(k) over w from s.market window w as (partition by k order by t)", False),
    ],
)
def test_each_mix_is_seen(sql, is_wrong):
    assert bool([*violations(sql, {"x", "y"})]) is is_wrong
