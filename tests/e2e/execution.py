"""The compiled models of the execution domain on one DuckDB connection in memory, all dates in one pass.

    pipeline = ExecutionPipeline(manifest)
    pipeline.land(events=[...], orders=[...])       # rows as dicts: what is left out is NULL or a plain default
    pipeline.build("stop_executions")               # with everything it is made of; without a name: all of them
    pipeline.rows("stop_executions")                # dicts in key order; any view of the project too

`tests/laws/test_replay_incremental.py` holds that the fold gives here what `dbt build` publishes date by date.
"""

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa

from ingest.window_schema import WINDOW_SCHEMAS
from lake import sources
from lake.views import columns, derived_view, literal, quote
from tests.conftest import PROJECT_DIR
from tests.e2e.in_memory import _in_order

Rows = Iterable[Mapping[str, Any]] | pa.Table

DEFAULTS = {
    "ingest_batch_id": "batch",
    "source_file": "rows.ndjson",
    "schema_version": 1,
    "environment": "testnet",
    "retry_count": 0,
    "payload_json": "{}",
    "fee": 0,
    "is_isolated_margin": False,
}
NO_DATE = "0001-01-01"


class ExecutionPipeline:
    """Every model of the execution domain; ``con`` has them by their own names (`silver.stop_executions`).

    ``manifest`` is of a project compiled for a database in memory (the fixture of `tests/laws`).
    """

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self.con = duckdb.connect(":memory:", config={"threads": 1})
        self.con.execute("set TimeZone = 'UTC'")
        nodes = manifest["nodes"]
        self.models = {
            n["alias"]: n for n in _in_order(nodes) if n["package_name"] == "tickhouse" and not _is_market(n)
        }
        self.parents = {
            n["alias"]: [nodes[u]["alias"] for u in n["depends_on"]["nodes"] if u in nodes]
            for n in self.models.values()
        }
        for schema in {"bronze", "reference", *(n["schema"] for n in self.models.values())}:
            self.con.execute(f"create schema if not exists {schema}")
        for node in nodes.values():
            if node["resource_type"] == "seed":
                self._seed(node)
        self.sources = {s["name"]: dict(columns(s)) for s in manifest["sources"].values()}
        # A source's relation, by its name; `over` another one it is a view.
        self.relations = {s["name"]: s["identifier"] for s in manifest["sources"].values()}
        self.derived = [s for s in sources.in_order(manifest) if s["meta"].get("over")]
        derived = {s["name"] for s in self.derived}
        for name, declared in self.sources.items():
            if name not in WINDOW_SCHEMAS and name not in derived:  # nothing is landed of it
                listed = ", ".join(f"cast(null as {t}) as {quote(n)}" for n, t in declared.items())
                self.con.execute(f"create view bronze.{name} as select {listed} where false")
        self.land()
        for source in self.derived:
            base = sources.by_name(manifest, source["meta"]["over"])
            self.con.execute(f"create view bronze.{source['identifier']} as {derived_view(source, base)}")

    def land(self, *, provisional: Mapping[str, Sequence[str]] | None = None, **rows: Rows) -> None:
        """Put these rows into bronze, by source, in place of all that was there.

        A row has any of its source's columns. ``ingested_at`` is the row's own time and ``loaded_at`` the
        ``ingested_at`` when left out, ``date`` the UTC date of the window column, ``row_hash`` of the business
        columns. Times are datetimes or ISO texts, decimals anything that `Decimal` reads, JSON a text or a dict.
        ``provisional``: hours 'YYYY-MM-DDTHH' that are not sealed, by source.
        """
        unknown = set(rows) - set(WINDOW_SCHEMAS)
        assert not unknown, f"no source {', '.join(sorted(unknown))}; there are {', '.join(WINDOW_SCHEMAS)}"
        for name in WINDOW_SCHEMAS:
            table = rows.get(name, [])
            landed = table if isinstance(table, pa.Table) else self._table(name, table)
            self.con.register(f"landed_{name}", landed)
            listed = ", ".join(
                f"cast({quote(n)} as {t}) as {quote(n)}" for n, t in self.sources[name].items()
            )
            self.con.execute(
                f"create or replace view bronze.{self.relations[name]} as select {listed} from landed_{name} "
                "where getvariable('landed_date') is null or date = getvariable('landed_date')"
            )
            self.con.execute(f"set variable provisional_{name} = {literal((provisional or {}).get(name))}")

    def build(self, *names: str) -> None:
        """Build these models and all that they are made of, in order; without names every dataset of the domain."""
        wanted = self.upstream(*names) if names else {n for n, m in self.models.items() if _is_execution(m)}
        for name in self.models:
            if name in wanted:
                self._build(name)

    def rebuild(self, *names: str) -> None:
        """Build only these models again, over whatever stands in their parents."""
        for name in self.models:
            if name in names:
                self._build(name)

    def rows(self, name: str, where: str = "true") -> list[dict[str, Any]]:
        """Rows of a model in key order, as dicts; a view that was not built yet is made first."""
        node = self.models[name]
        if not self._is_dataset(node):
            self._build(name)
        key = (node["config"].get("meta") or {}).get("key") or []
        order = f" order by {', '.join(quote(k) for k in key)}" if key else ""
        return self.query(f"select * from {self._relation(node)} where {where}{order}")

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of any query, as dicts."""
        found = self.con.execute(sql)
        names = [d[0] for d in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def replace(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put these rows in place of a model's own; columns that are left out are NULL."""
        node = self.models[name]
        declared = self._columns(node)
        self.con.register("_given", _arrow(declared, rows))
        self._create(node, "select * from _given")
        self.con.unregister("_given")

    def upstream(self, *names: str) -> set[str]:
        """These models and every model that they are made of."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in self.models and name not in found:
                found.add(name)
                todo += self.parents[name]
        return found

    # -- building ------------------------------------------------------------------------------------------------

    def _build(self, name: str) -> None:
        node = self.models[name]
        code = node["compiled_code"]
        if not self._is_dataset(node):
            self.con.execute(f"create or replace view {self._relation(node)} as {code}")
        elif node["language"] == "python":
            module: dict[str, Any] = {}
            exec(compile(code, name, "exec"), module)  # noqa: S102 (the project's own models)
            dbt = module["dbtObj"](lambda relation: self.con.query(f"select * from {relation}"))
            made = module["model"](dbt, self.con)
            self.con.register("_made", made if isinstance(made, pa.Table) else made.read_all())
            self._create(node, "select * from _made")
            self.con.unregister("_made")
        elif "date" in [d[0] for d in self.con.execute(f"describe ({code})").fetchall()]:
            self._create(node, code)
        else:
            self._by_date(node, code)

    def _by_date(self, node: dict, code: str) -> None:
        """Staging that says no date of its rows: one bronze date after the other."""
        landed = [
            self.relations[u.rsplit(".", 1)[-1]]
            for u in node["depends_on"]["nodes"]
            if u.startswith("source.")
        ]
        assert landed, f"{node['alias']} gives no column `date`; all dates are built in one pass"
        dates = sorted(
            {
                d
                for s in landed
                for (d,) in self.con.execute(f"select distinct date from bronze.{s}").fetchall()
            }
        )
        for number, date in enumerate(dates or [NO_DATE]):
            self.con.execute(f"set variable landed_date = date '{date}'")
            self._create(node, f"select *, date '{date}' as date from ({code})", append=number > 0)
        self.con.execute("reset variable landed_date")

    def _create(self, node: dict, rows: str, *, append: bool = False) -> None:
        listed = ", ".join(f"cast({quote(n)} as {t}) as {quote(n)}" for n, t in self._columns(node).items())
        key = ", ".join(quote(k) for k in node["config"]["meta"]["key"])
        begin = "insert into" if append else "create or replace table"
        self.con.execute(
            f"{begin} {self._relation(node)} {'' if append else 'as '}select {listed} from ({rows}\n) order by {key}"
        )

    @staticmethod
    def _columns(node: dict) -> dict[str, str]:
        return {**dict(columns(node)), "date": "date"}

    @staticmethod
    def _is_dataset(node: dict) -> bool:
        return node["config"]["materialized"] == "dataset"

    @staticmethod
    def _relation(node: dict) -> str:
        return f"{node['schema']}.{node['alias']}"

    def _table(self, source: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
        schema = WINDOW_SCHEMAS[source]
        business = schema.columns.names
        filled = []
        for given in rows:
            row = {**DEFAULTS, **given}
            row["ingested_at"] = (
                row.get("ingested_at")
                or row[schema.row_time if schema.by_ingested_at else schema.window_column]
            )
            row["loaded_at"] = row.get("loaded_at") or row["ingested_at"]
            row["date"] = row.get("date") or _time(row[schema.window_column]).date()
            row["row_hash"] = row.get("row_hash") or _hash({n: row.get(n) for n in business})
            filled.append(row)
        return _arrow(self.sources[source], filled)

    def _seed(self, node: dict) -> None:
        path = PROJECT_DIR / node["original_file_path"]
        types = ", ".join(f"'{n}': '{t}'" for n, t in (node["config"].get("column_types") or {}).items())
        self.con.execute(f"create schema if not exists {node['schema']}")
        self.con.execute(
            f"create table {node['schema']}.{node['alias']} as "
            f"from read_csv('{path}', header = true{f', types = {{{types}}}' if types else ''})"
        )


def _is_market(node: dict) -> bool:
    return "market" in node["fqn"]


def _is_execution(node: dict) -> bool:
    return "execution" in node["fqn"]


def _time(value: object) -> datetime.datetime:
    """A time as UTC."""
    at = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(str(value))
    return at.replace(tzinfo=datetime.UTC) if at.tzinfo is None else at.astimezone(datetime.UTC)


def _hash(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, default=str, sort_keys=True).encode()).hexdigest()


def _arrow(declared: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as Arrow columns that DuckDB casts to the declared types."""
    rows = list(rows)
    unknown = {n for row in rows for n in row} - set(declared) - set(DEFAULTS)
    assert not unknown, f"no column {', '.join(sorted(unknown))}; there are {', '.join(declared)}"
    arrays = [_array(kind, [row.get(name) for row in rows]) for name, kind in declared.items()]
    return pa.Table.from_arrays(arrays, names=list(declared))


def _array(kind: str, values: list[Any]) -> pa.Array:
    if kind.startswith("timestamp"):
        return pa.array([None if v is None else _time(v) for v in values], pa.timestamp("us", "UTC"))
    if kind.startswith("decimal"):
        return pa.array([None if v is None else str(Decimal(str(v))) for v in values], pa.string())
    if kind == "varchar":
        texts = [
            json.dumps(v, sort_keys=True, separators=(",", ":")) if isinstance(v, dict | list) else v
            for v in values
        ]
        return pa.array(texts, pa.string())
    if kind in ("uuid", "date"):
        return pa.array([None if v is None else str(v) for v in values], pa.string())
    if kind == "boolean":
        return pa.array(values, pa.bool_())
    if kind in ("double", "float"):
        return pa.array(values, pa.float64())
    if kind in ("tinyint", "smallint", "integer", "bigint"):
        return pa.array(values, pa.int64())
    return pa.array(values, pa.string()) if not any(v is not None for v in values) else pa.array(values)
