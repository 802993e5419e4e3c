"""The project's compiled models on one DuckDB connection in memory: the same SQL and kernels, without dbt and files
between them. A day is built in a fraction of a second, so that a property can be tried on many markets.

`tests/laws/test_pipeline_equals_oracle.py` holds that it gives what `dbt build` publishes.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from lake import calendar
from lake.params import ParamSet
from lake.views import columns, literal, quote
from tests.conftest import PROJECT_DIR
from tests.e2e.market import Day, option_row, spy_row
from tests.fixtures.bronze import MBP10, OPTIONS_TRADES, STOCKS_TRADES, TRADES
from tests.oracle import worlds

# What is landed: its key in the path, and the key's value.
SOURCES = {
    "futures_trades": ("symbol", "ES"),
    "futures_mbp10": ("symbol", "ES"),
    "options_trades": ("underlying", "SPY"),
    "stocks_trades": ("symbol", "SPY"),
}
WITH_KNOWN_GAPS = ("futures_trades", "futures_mbp10")


@dataclass
class Model:
    """One compiled model: what it reads, how its rows stand, and its code."""

    node: dict
    parents: list[dict]

    @property
    def name(self) -> str:
        return self.node["alias"]

    @property
    def relation(self) -> str:
        return f"{self.node['schema']}.{self.name}"

    @property
    def meta(self) -> dict:
        return self.node["config"]["meta"]

    @property
    def is_dataset(self) -> bool:
        return self.node["config"]["materialized"] == "dataset"

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Declared columns in order; the date stands in the path, and here beside them."""
        return [(n, t) for n, t in columns(self.node) if n != "session_date"]


class Pipeline:
    """Every dataset of the project for one param set; ``con`` has them by their own names.

    ``manifest`` is of a project compiled for a database in memory. A market is a pair of lists, trades and book
    records of the oracle, each event with its ``contract``, in total order; option and SPY prints beside it.
    """

    def __init__(self, manifest: Mapping[str, Any], param_set: ParamSet) -> None:
        self.param_set = param_set
        self.con = duckdb.connect(":memory:", config={"threads": 1})
        self.con.execute("set TimeZone = 'UTC'")
        for schema in ("bronze", "reference", "silver", "gold", "monitoring"):
            self.con.execute(f"create schema {schema}")
        nodes = manifest["nodes"]
        for node in nodes.values():
            if node["resource_type"] == "seed":
                self._seed(node)
        for source in manifest["sources"].values():
            if source["name"] not in SOURCES:  # nothing is landed of it
                listed = ", ".join(f"cast(null as {t}) as {quote(n)}" for n, t in columns(source))
                self.con.execute(f"create view bronze.{source['name']} as select {listed} where false")
        self.market(([], []))
        self.models = [
            Model(n, [nodes[u] for u in n["depends_on"]["nodes"] if u in nodes])
            for n in _in_order(nodes)
            if n["schema"] in ("silver", "gold") and "execution" not in n["fqn"]  # those: `execution.py`
        ]
        for model in self.models:
            self._create(model)
        values = {**param_set.values, "params_digest": param_set.digest, "params": param_set.as_json()}
        for name, value in values.items():
            self.con.execute(f"set variable p_{name} = {literal(value)}")

    def market(
        self,
        events: tuple[Sequence[dict], Sequence[dict]],
        *,
        options: Sequence[dict] = (),
        spy: Sequence[dict] = (),
        gaps: Sequence[tuple[str, int, int]] = (),
        f_last_absent: bool = False,
    ) -> None:
        """Put these trades, records, option and SPY prints into bronze, in place of what was there, with what a
        delivery says of them: (contract, from_ns, to_ns) that is missing, and whether it marks no event ends."""
        known = json.dumps({"gaps": [*gaps], "f_last_absent": f_last_absent})
        for source in WITH_KNOWN_GAPS:
            self.con.execute(f"set variable known_{source} = {literal(known)}")
        tables = {
            "futures_trades": bronze_trades(events[0]),
            "futures_mbp10": bronze_records(events[1]),
            "options_trades": bronze_rows(map(option_row, options), OPTIONS_TRADES),
            "stocks_trades": bronze_rows(map(spy_row, spy), STOCKS_TRADES),
        }
        for source, (key, value) in SOURCES.items():
            self.con.register(f"landed_{source}", tables[source])
            self.con.execute(
                f"create or replace view bronze.{source} as select *, '{value}' as {key}, date '1970-01-01' as date, "
                f"0 as hour_utc, false as is_shared_hour, false as is_superseded from landed_{source}"
            )

    def land(self, day: Day) -> None:
        """Put a day's events into bronze, in place of what was there."""
        self.market((day.trades, day.records), options=day.options, spy=day.spy)

    def build(self, date: str, *, keep: Collection[str] = (), only: Collection[str] | None = None) -> None:
        """Build one session's partition of every model in order, but for those in ``keep``, which stay as they are;
        of ``only`` these, when given."""
        for model in self.models:
            if model.is_dataset and model.name not in keep and (only is None or model.name in only):
                self._build(model, date)

    def upstream(self, *names: str) -> set[str]:
        """These datasets and every dataset that they are made of."""
        by_name = {m.name: m for m in self.models}
        found: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in by_name and name not in found:
                found.add(name)
                todo += [parent["alias"] for parent in by_name[name].parents]
        return {name for name in found if by_name[name].is_dataset}

    @property
    def history(self) -> set[str]:
        """What a session has to have for those after it to be built: datasets read on earlier dates, and theirs."""
        reads = [item for m in self.models for item in m.meta.get("reads", {}).items()]
        return self.upstream(*(name for name, how in reads if how.get("sessions_before")))

    def rows(self, name: str, date: str) -> list[dict]:
        """Rows of one partition as dicts, in key order."""
        model = next(m for m in self.models if m.name == name)
        names = ", ".join(quote(n) for n, _ in model.columns)
        query = f"select {names} from {model.relation} where date = date '{date}'"
        return self.con.query(query).to_arrow_table().to_pylist()

    def replace(self, name: str, date: str, rows: Sequence[dict]) -> None:
        """Put these rows in place of a partition's own."""
        model = next(m for m in self.models if m.name == name)
        self._insert(model, date, pa.Table.from_pylist(list(rows), schema=self._schema(model)))

    # -- building ------------------------------------------------------------------------------------------------

    def _build(self, model: Model, date: str) -> None:
        self.con.execute(f"set variable build_date = date '{date}'")
        for parent in model.parents:
            dates = self._dates(model, parent, date)
            self.con.execute(f"set variable dates_{parent['alias']} = {literal(dates)}::date[]")
        code = model.node["compiled_code"]
        if model.node["language"] == "python":
            module: dict[str, Any] = {}
            exec(compile(code, model.name, "exec"), module)  # noqa: S102 (the project's own models)
            dbt = module["dbtObj"](lambda relation: self.con.query(f"select * from {relation}"))
            made = module["model"](dbt, self.con)
            self._insert(model, date, made if isinstance(made, pa.Table) else made.read_all())
        else:
            self._insert(model, date, self.con.query(code).to_arrow_table())

    def _insert(self, model: Model, date: str, made: pa.Table) -> None:
        self.con.register("made", made)
        listed = ", ".join(f"cast({quote(n)} as {t})" for n, t in model.columns)
        lineage = f", date '{date}', date '{date}', '{self.param_set.digest8}'"
        if not any(n == "params_digest" for n, _ in model.columns):
            lineage += f", '{self.param_set.digest}'"
        order = ", ".join(quote(k) for k in model.meta["key"])
        self.con.execute(f"delete from {model.relation} where date = date '{date}'")
        self.con.execute(f"insert into {model.relation} select {listed}{lineage} from made order by {order}")
        self.con.unregister("made")

    def _dates(self, model: Model, parent: dict, date: str) -> list[str]:
        reads = model.meta.get("reads", {}).get(parent["alias"], {})
        count = reads.get("sessions_before", 0)
        if isinstance(count, str):
            count = self.param_set.values[count]
        return [*calendar.load().before(date, count), *([date] if reads.get("own", True) else [])]

    def _create(self, model: Model) -> None:
        if not model.is_dataset:
            self.con.execute(f"create view {model.relation} as {model.node['compiled_code']}")
            return
        listed = [*model.columns, ("session_date", "date"), ("date", "date"), ("params", "varchar")]
        if not any(n == "params_digest" for n, _ in model.columns):
            listed.append(("params_digest", "varchar"))
        self.con.execute(f"create table {model.relation} ({', '.join(f'{quote(n)} {t}' for n, t in listed)})")

    def _schema(self, model: Model) -> pa.Schema:
        names = ", ".join(quote(n) for n, _ in model.columns)
        return self.con.query(f"select {names} from {model.relation} limit 0").to_arrow_table().schema

    def _seed(self, node: dict) -> None:
        path = PROJECT_DIR / node["original_file_path"]
        types = ", ".join(f"'{n}': '{t}'" for n, t in (node["config"].get("column_types") or {}).items())
        self.con.execute(
            f"create table {node['schema']}.{node['alias']} as "
            f"from read_csv('{path}', header = true{f', types = {{{types}}}' if types else ''})"
        )


def _in_order(nodes: Mapping[str, dict]) -> list[dict]:
    """Models, each after the models that it reads."""
    found: dict[str, dict] = {}

    def add(uid: str) -> None:
        node = nodes.get(uid)
        if node is None or uid in found or node["resource_type"] != "model":
            return
        for parent in sorted(node["depends_on"]["nodes"]):
            add(parent)
        found[uid] = node

    for uid in sorted(nodes):
        add(uid)
    return list(found.values())


def bronze_trades(trades: Sequence[dict]) -> pa.Table:
    """Trades of the oracle as `futures.trades.v1`."""
    n = len(trades)
    if n == 0:
        return TRADES.empty_table()
    plain = {
        "ts_recv_ns": [t["ts_event_ns"] + 1000 for t in trades],
        "source": ["sim"] * n,
        "delivery_id": ["0123456789abcdef"] * n,
        "_extra": [None] * n,
        "publisher_id": [1] * n,
        "instrument_id": [7] * n,
        "price": worlds._decimal_prices([t["tick"] for t in trades]),
        "side": [{1: "B", -1: "A", 0: "N"}[t["aggressor"]] for t in trades],
        "flags": [0] * n,
        "depth": [0] * n,
        "ts_in_delta": [100] * n,
    }
    arrays = [plain[f.name] if f.name in plain else [t[f.name] for t in trades] for f in TRADES]
    return pa.table(
        [a if isinstance(a, pa.Array) else pa.array(a, f.type) for a, f in zip(arrays, TRADES, strict=True)],
        schema=TRADES,
    )


def bronze_records(records: Iterable[dict]) -> pa.Table:
    """Records of the oracle as `futures.mbp10.v1`."""
    records = list(records)
    if not records:
        return MBP10.empty_table()
    table = worlds.mbp10_table(records)
    contracts = pa.array([r["contract"] for r in records], pa.string())
    return table.set_column(table.schema.get_field_index("contract"), "contract", contracts)


def bronze_rows(rows: Iterable[dict], schema: pa.Schema) -> pa.Table:
    """Rows of a text source, in file order: what a row leaves out is NULL."""
    lineage = {"ts_recv_ns": None, "source": "sim", "delivery_id": "0123456789abcdef"}
    return pa.Table.from_pylist([{**lineage, **row} for row in rows], schema=schema)
