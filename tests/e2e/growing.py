"""The execution domain in memory, built date by date as rows come: what `dbt build` does after each landing, without
dbt, files and commit records. A load is built in a second, so that a property can be tried on many histories.

    pipeline = GrowingPipeline(manifest, "stop_executions", "replay_anomalies")
    pipeline.grow(events=first)                     # lands and builds the dates that are due
    pipeline.grow(events=[*first, *second])         # bronze grows: those that the new rows touch, by the models' maps

Which dates a date reads is asked of `lake.date_maps`; a date is built again when the content of one of them has
changed. Readers see those dates alone, by the same session variables. `tests/laws/test_replay_incremental.py` has the
same law through `dbt`.
"""

import json
from collections.abc import Mapping
from typing import Any

from lake import code, date_maps
from lake.views import literal, quote
from tests.e2e.execution import ExecutionPipeline, Rows


class GrowingPipeline(ExecutionPipeline):
    """These models and all that they are made of; ``built`` counts the dates that the last `grow` built, by model."""

    def __init__(self, manifest: Mapping[str, Any], *names: str) -> None:
        super().__init__(manifest)
        wanted = self.upstream(*names)
        self.wanted = [n for name, n in self.models.items() if name in wanted and self._is_dataset(n)]
        self.reads = {n["alias"]: date_maps.reads(n, manifest) for n in self.wanted}
        self.by_id = {s["unique_id"]: s for s in manifest["sources"].values()}
        for name, node in self.models.items():
            if name in wanted and not self._is_dataset(node):
                self._build(name)
        self.forget()

    def forget(self) -> None:
        """Begin with an empty lake."""
        self.digests: dict[str, dict[str, str]] = {}
        self.indexes: dict[str, dict[str, date_maps.Index]] = {}
        self.keys: dict[tuple[str, str], str] = {}
        for node in self.wanted:
            self._create(node, self._empty(node))
            self._remember(node)

    def grow(self, **rows: Rows) -> None:
        """Land rows in place of all that was there, and build what is due."""
        self.land(**rows)
        self.built: dict[str, int] = {}
        for node in self.wanted:
            name, due = node["alias"], 0
            landed = self._landed(node)
            parents = {p: date_maps.Dates(self.digests[p]) for p in self.parents[name] if p in self.digests}
            for date in sorted(self._candidates(node, parents) | {d for (_, d) in landed}):
                inputs, variables = {}, {"build_date": date, "landed_date": date}
                for parent, have in parents.items():
                    read = self.reads[name].get(parent, date_maps.Read())
                    indexes = [self.indexes[alias][index] for alias, index in read.dates_of]
                    variables[f"dates_{parent}"], found = date_maps.dates_read(read, date, have, indexes)
                    inputs |= {f"{parent}/{d}": digest for d, digest in found.items()}
                inputs |= {source: digest for (source, d), digest in landed.items() if d == date}
                key = json.dumps(inputs, sort_keys=True)
                if self.keys.get((name, date)) != key:
                    self._build_date(node, date, variables)
                    self.keys[name, date] = key
                    due += 1
            if due:
                self._remember(node)
            self.built[name] = due

    def _candidates(self, node: dict, parents: Mapping[str, date_maps.Dates]) -> set[str]:
        name = node["alias"]
        dates = {*self.digests[name]}
        for parent, have in parents.items():
            read = self.reads[name].get(parent, date_maps.Read())
            dates |= set(have.dates) if read.own else set()
            for alias, index in read.dates_of:
                dates |= self.indexes[alias][index].keys()
        return dates

    def _landed(self, node: dict) -> dict[tuple[str, str], str]:
        """Content of the sources that a model reads, by (relation, date)."""
        found = {}
        for uid in node["depends_on"]["nodes"]:
            if uid in self.by_id:
                relation = f"bronze.{self.by_id[uid]['identifier']}"
                found |= {(relation, d): digest for d, digest in self._contents(relation, "*").items()}
        return found

    def _build_date(self, node: dict, date: str, variables: Mapping[str, Any]) -> None:
        for variable, value in variables.items():
            kind = "date" if isinstance(value, str) else "date[]"
            self.con.execute(f"set variable {variable} = {literal(value)}::{kind}")
        self.con.execute(f"delete from {self._relation(node)} where date = date '{date}'")
        before = self._count(node)
        self._insert(node)
        stray = self._count(node, f"where date != date '{date}'") - before
        assert not stray, f"{node['alias']}, {date}: {stray} rows of other dates"
        # A date without rows stands all the same, as its record does in the lake.
        self.digests[node["alias"]].setdefault(date, "")
        for variable in variables:
            self.con.execute(f"reset variable {variable}")

    def _insert(self, node: dict) -> None:
        if node["language"] == "python":
            raise AssertionError(f"{node['alias']} is a Python model; no law grows one in memory yet")
        listed = ", ".join(f"cast({quote(n)} as {t}) as {quote(n)}" for n, t in self._columns(node).items())
        self.con.execute(
            f"insert into {self._relation(node)} select {listed} from ({node['compiled_code']}\n)"
        )

    def _remember(self, node: dict) -> None:
        """Digests of the dates that stand, and what their indexes say."""
        name = node["alias"]
        content = [c["name"] for c in node["columns"].values() if not code.is_lineage(c)]
        stands = dict.fromkeys(self.digests.get(name, {}), "")
        self.digests[name] = stands | self._contents(
            self._relation(node), ", ".join(quote(n) for n in {**dict.fromkeys(content), "date": None})
        )
        self.indexes[name] = {}
        for index, (mapped, read) in date_maps.declared_indexes(node).items():
            pairs = self.con.execute(
                f"select distinct {mapped}::varchar, {read}::varchar from {self._relation(node)}"
            ).fetchall()
            found: date_maps.Index = {}
            for date, reads in pairs:
                found.setdefault(date, set()).add(reads)
            self.indexes[name][index] = found

    def _contents(self, relation: str, columns: str) -> dict[str, str]:
        rows = self.con.execute(
            f"select date::varchar, count(*), sum(hash(rows)) from (select {columns} from {relation}) as rows "
            "group by date"
        ).fetchall()
        return {date: f"{count} {digest}" for date, count, digest in rows}

    def _empty(self, node: dict) -> str:
        listed = ", ".join(f"cast(null as {t}) as {quote(n)}" for n, t in self._columns(node).items())
        return f"select {listed} where false"

    def _count(self, node: dict, where: str = "") -> int:
        return self.con.execute(f"select count(*) from {self._relation(node)} {where}").fetchone()[0]
