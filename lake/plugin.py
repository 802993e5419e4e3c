"""The dbt-duckdb plugin: the door through which the `dataset` materialization and the run hooks call this package.

dbt hands it a job as a dict, by reference, so that an answer is put into the same dict. Jinja keeps the SQL, Python
plans and publishes.
"""

import gc
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.factory import FACTORY
from dbt_common.exceptions import DbtRuntimeError

from lake import (
    active,
    bronze,
    code,
    commits,
    data_tests,
    date_maps,
    keyed,
    params,
    path_keys,
    plan,
    record_views,
    released,
    rollup,
    row_laws,
    runs,
    sources,
    staging,
    tenants,
    versions,
    views,
    windows,
)
from lake.locks import Locks
from lake.paths import archive_dir, lake_root, stage_dir

LOCK_TIMEOUT_S = 600


@dataclass
class _Run:
    """What one dbt invocation has published and tested so far."""

    run_id: str = ""
    started_at: str = ""
    published: dict[str, set[tuple[str | None, str]]] = field(default_factory=dict)
    judged: bool = False
    # By data test, the dates that it reads (None: all); by dataset, its untested dates and the digest of its tests.
    due: dict[str, list[str] | None] = field(default_factory=dict)
    untested: dict[str, set[str]] = field(default_factory=dict)
    tests_digests: dict[str, str] = field(default_factory=dict)


class Plugin(BasePlugin):
    """``register``, ``plan``, ``contract``, ``stage``, ``publish``, ``finish``, ``end`` and others, each of its job."""

    def initialize(self, plugin_config: dict) -> None:
        try:
            self.root = lake_root()
            stage_dir(self.root).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DbtRuntimeError(
                f"the lake can't be written: {error}; LAKE_ROOT names its folder"
            ) from error
        self.run = _Run()
        self.locks: dict[str, Locks] = {}
        self.shown: dict[str, set[tuple[str, Path]]] = {}
        self.files: list[bronze.BronzeFile] = []

    def configure_connection(self, conn: object) -> None:
        """``TICKHOUSE_THREADS`` are DuckDB's; by default it takes every core. No content hangs on it."""
        if threads := os.environ.get("TICKHOUSE_THREADS"):
            conn.execute(f"set threads = {int(threads)}")

    def store(self, target_config: object) -> None:
        job = target_config.config
        try:
            getattr(self, f"_op_{job['op']}")(job)
        except (plan.PlanError, views.UndeclaredColumns, ValueError, OSError, duckdb.Error) as error:
            if os.environ.get("TICKHOUSE_DEBUG"):
                raise
            raise DbtRuntimeError(str(error)) from error

    # -- the views of a run ------------------------------------------------------------------------------------------

    def _op_register(self, job: dict) -> None:
        """SQL that makes every view of the lake again: run first, as ``lake.duckdb`` may be new or behind."""
        _freeze()
        self.run = _Run(runs.new_run_id(job["command"].replace("-", "")), commits.now_utc())
        self._release_all()
        graph = job["graph"]
        for seed in graph["nodes"].values():
            if seed["resource_type"] == "seed" and (table := views.seed_table(seed)):
                job["sql"] += [f'create schema if not exists "{seed["schema"]}"', table]
                job["tables"].append({"schema": seed["schema"], "identifier": seed["alias"]})
        self.files = bronze.visible_files(self.root)
        shared = bronze.shared_hours(self.files)
        for source in sources.in_order(graph):
            if base := source["meta"].get("over"):
                select = views.derived_view(source, sources.by_name(graph, base))
                name = f"{source['schema']}.{source['identifier']}"
                job["sql"].append(f"create or replace view {name} as {select}")
                continue
            keys = (
                source["source_meta"]["keys"] if "keys" in source["source_meta"] else source["meta"]["keys"]
            )
            # Always anew: one that a killed run left torn, or of older columns, would fail every run after it.
            job["sql"].append(views.empty_file_copy(self.root, source, keys))
            job["sql"].append(f'create schema if not exists "{source["schema"]}"')
            if source["meta"].get("holds") == "rejects":
                select = views.window_view(self.root, source, keys, bronze.reject_files(self.root))
            elif source["meta"].get("windows"):
                paths = [part.path for part in windows.visible_parts(self.root, source["name"])]
                select = views.window_view(self.root, source, keys, paths)
            else:
                select = views.bronze_view(self.root, source, keys, self.files, shared)
            job["sql"].append(f"create or replace view {source['schema']}.{source['identifier']} as {select}")
        if graph["sources"]:
            windowed = {
                s["name"]: s["meta"].get("windows")
                for s in graph["sources"].values()
                if s["meta"].get("holds") != "rejects" and not s["meta"].get("over")
            }
            last = sources.last_at(self.root, windowed, self.files)
            job["sql"].append(views.landed_table(last))
        job["tenant_sql"] += tenants.views_sql(graph)
        for node in graph["nodes"].values():
            if node["resource_type"] == "model" and node["config"].get("materialized") == "view":
                job["sql"].append(f'create schema if not exists "{node["schema"]}"')
            if plan.is_dataset(node):
                job["sql"].append(f'create schema if not exists "{node["schema"]}"')
                job["sql"].append(self._view_sql(node))

    def _view_sql(self, node: dict, found: dict | None = None) -> str:
        """SQL of a dataset's view over ``found``, by default the partitions that are committed now."""
        folder = self._folder(node)
        partitions = [
            *(commits.read_partitions(self.root / "lake" / folder) if found is None else found).values()
        ]
        self.shown[folder] = _shown(partitions)
        select = views.dataset_view(node, _partition_column(node), plan.per_params(node), partitions)
        return f"create or replace view {node['schema']}.{node['alias']} as {select}"

    def _folder(self, node: dict) -> str:
        """The folder below ``lake/`` of the version of a dataset that this run reads and builds."""
        return active.folder(self.root, plan.dataset_folder(node))

    def _is_shown(self, node: dict, found: dict) -> bool:
        """True when this run has made the dataset's view over exactly these partitions."""
        return self.shown.get(self._folder(node)) == _shown(found.values())

    def _op_param_values(self, job: dict) -> None:
        """One parameter's value in every param set of the repository, by params digest: for the data tests."""
        sets = [params.load(name) for name in params.names()]
        if job["name"] not in sets[0].values:
            raise ValueError(f"parameter was {job['name']!r}, expected a key of params/default.yaml")
        job["rows"] = sorted({p.digest: p.values[job["name"]] for p in sets}.items())

    def _op_records(self, job: dict) -> None:
        """Records that are no dataset, as a relation."""
        job["sql"] = record_views.RELATIONS[job["name"]](self.root)

    # -- one dataset -------------------------------------------------------------------------------------------------

    def _op_plan(self, job: dict) -> None:
        node, graph = job["model"], job["graph"]
        folder = self._folder(node)
        self.locks[node["unique_id"]] = locks = Locks(stage_dir(self.root))
        locks.take(folder, map(self._folder, plan.dataset_parents(node, graph)), LOCK_TIMEOUT_S)
        for stray in stage_dir(self.root).glob(f"{node['alias']}@*.parquet"):
            stray.unlink()
        keyed.tidy(self.root / "lake" / folder)  # after a killed run; this one has made the views anew
        start_date, end_date = _span(job["start_date"], job["end_date"])
        job["plan"] = planned = plan.plan(
            self.root,
            node,
            graph,
            _macros(),
            selected=job["selected"],
            param_set=job["param_set"],
            start_date=start_date,
            end_date=end_date,
            full_refresh=job["full_refresh"],
            visible=self.files,
        )
        # Another process may have published since the views were made: the plan and the build must see the same files.
        job["views_sql"] = [
            self._view_sql(parent, found)
            for parent, found in planned.parents
            if not self._is_shown(parent, found)
        ]
        job["columns"] = views.columns(node)
        job["partition_column"] = _partition_column(node)
        job["key"] = path_keys.row_order(node)
        job["total"] = planned.total
        job["version"] = self._version(node, graph, job["param_set"])
        job["built"], job["refusal"] = 0, None
        if planned.release:
            self._leave_out_appended(job, planned)
        job["steps"] = [self._step(job, step) for step in planned.steps]

    @staticmethod
    def _leave_out_appended(job: dict, planned: plan.Plan) -> None:
        """New dates join a released version only while it would be made as it was; told once its own dates are
        found to be what they were."""
        new = [step.date for step in planned.steps if step.kept is None]
        job["refusal"] = released.refuse_append(planned.release, job["version"]["now"], new)
        if job["refusal"]:
            planned.steps = [step for step in planned.steps if step.kept is not None]

    def _step(self, job: dict, step: plan.Step) -> dict:
        node = job["model"]
        variables: dict[str, object] = {"build_date": None}
        variables.update({f"dates_{parent}": None for parent in step.dates})
        sql = [f"set variable build_date = date '{step.date}'"]
        for parent, dates in step.dates.items():
            sql.append(f"set variable dates_{parent} = {views.literal(dates)}::date[]")
        for name, lists in step.bronze_files.items():
            keys = _source_keys(job["graph"], name)
            for suffix, listed in zip(("", "_shared"), lists, strict=True):
                for place, is_archived in (("", False), ("_archived", True)):
                    variable = f"bronze_{name}{suffix}{place}"
                    paths = [p for p in listed if p.is_relative_to(archive_dir(self.root)) == is_archived]
                    paths = paths or [bronze.empty_file(self.root, name, keys)]
                    sql.append(f"set variable {variable} = {views.literal(paths)}")
                    variables[variable] = None
        for name, hours in step.provisional.items():
            sql.append(f"set variable provisional_{name} = {views.literal(hours)}::varchar[]")
            variables[f"provisional_{name}"] = None
        for name, end in step.sealed_through.items():
            sql.append(f"set variable sealed_through_{name} = {views.literal(end)}::timestamptz")
            variables[f"sealed_through_{name}"] = None
        for name, known in step.known.items():
            sql.append(f"set variable known_{name} = {views.literal(params.canonical_json(known))}")
            variables[f"known_{name}"] = None
        if step.params:
            values = {
                **step.params.values,
                "params_digest": step.params.digest,
                "params": step.params.as_json(),
            }
            sql += [f"set variable p_{k} = {views.literal(v)}" for k, v in values.items()]
            variables.update({f"p_{k}": None for k in values})
        stem = f"{node['alias']}@{(step.params.digest8 + '.') if step.params else ''}{step.date}"
        version = job["version"] or {}
        return {
            "step": step,
            "date": step.date,
            "set_sql": ";\n".join(sql),
            "reset_sql": ";\n".join(f"reset variable {v}" for v in variables),
            "stage": str(stage_dir(self.root) / f"{stem}.parquet"),
            "kv": {
                "dataset": plan.dataset_folder(node),
                "date": step.date,
                "params_digest": step.params.digest if step.params else "",
                "input_digest": plan.input_digest(step.inputs),
                "build_digest": version.get("build_digest", ""),
            },
        }

    def _op_contract(self, job: dict) -> None:
        """Refuse SQL whose columns aren't the declared ones, before anything is written."""
        where = f"{job['job']['model']['name']}, {job['step']['date']}"
        row_laws.check_columns(
            [(row[0], row[1]) for row in job["found"]], job["job"]["columns"], where, exact=True
        )

    def _op_stage(self, job: dict) -> None:
        """Stage a step's rows, which ``job["sql"]`` gives in their order; those of a Python model when its own
        statement hands them over."""
        planned: plan.Plan = job["job"]["plan"]
        step: plan.Step = job["step"]["step"]
        node, order, key = planned.node, job["job"]["key"], plan.meta(planned.node)["key"]
        target = staging.Target(
            where=f"{node['name']}, {step.date}",
            file=Path(job["step"]["stage"]),
            sql=job["sql"],
            columns=job["job"]["columns"],
            key=order,
            date=step.date,
            partition_column=job["job"]["partition_column"],
            unique=key if set(order) > set(key) else (),
            lineage=_lineage_columns(node),
            path_keys=list(path_keys.declared(node)),
            indexes=date_maps.declared_indexes(node),
            metadata=job["step"]["kv"],
        )
        job["step"]["target"] = target
        if node["language"] == "python":
            staging.expect(target)
        else:
            job["step"]["staged"] = staging.stage(_connection(), target)

    def _op_publish(self, job: dict) -> None:
        planned: plan.Plan = job["job"]["plan"]
        step: plan.Step = job["step"]["step"]
        node = planned.node
        staged = job["step"].get("staged") or staging.outcome(job["step"]["target"])
        version = job["job"]["version"] or {}
        if step.kept and not self._is_filled(job, planned, step, staged):
            return
        commit = commits.Commit(
            dataset=planned.dataset,
            date=step.date,
            params_digest=step.params.digest if step.params else None,
            rows=staged.rows,
            bytes=sum(file.path.stat().st_size for file in staged.files),
            content_digest=staged.content_digest,
            build_key=step.build_key,
            code_digest=planned.code_digest,
            inputs=step.inputs,
            input_digest=plan.input_digest(step.inputs),
            build_digest=version.get("build_digest"),
            built_at=commits.now_utc(),
            run_id=self.run.run_id,
            indexes=staged.indexes,
        )
        if keys := path_keys.declared(node):
            partition = keyed.publish(staged.files, planned.dataset_dir, commit, keys)
        else:
            partition = commits.publish(staged.files[0].path, step.folder, commit)
        if planned.release:
            released.write_ancestry(self.root, partition)
        job["job"]["built"] += 1
        params = step.params.digest8 if plan.per_params(node) else None
        self.run.published.setdefault(node["unique_id"], set()).add((params, step.date))

    def _is_filled(self, job: dict, planned: plan.Plan, step: plan.Step, staged: staging.Staged) -> bool:
        """Whether a released date gets its first rows. Else it stands: its rebuild is compared with it and goes."""
        now, key, content = job["job"]["version"]["now"], job["job"]["key"], staged.content_digest
        file = staged.files[0].path
        verdict = None
        try:
            verdict = released.judge(
                self.root, planned.release, step.kept, now, step.inputs, file, content, key
            )
        finally:
            if verdict is None or verdict.outcome != released.FILLED:
                file.unlink()
        self.run.judged = True
        if verdict.outcome == released.FILLED:
            return True
        released.write_verdict(step.kept, step.build_key, verdict, self.run.run_id)
        if verdict.outcome == released.CHANGED:
            raise released.ReleasedError(verdict.message)
        job["step"]["warning"] = verdict.message if verdict.outcome == released.INPUT else None
        return False

    def _op_finish(self, job: dict) -> None:
        """The dataset's view over what is now committed, and the roll-up of a version."""
        node = job["job"]["model"]
        if job["job"]["refusal"]:
            raise released.ReleasedError(job["job"]["refusal"])
        found = commits.read_partitions(plan.dataset_dir(self.root, node))
        if not self._is_shown(node, found):
            job["view_sql"] = self._view_sql(node, found)
        self._roll_up(node, job["job"]["version"])

    def _op_done(self, job: dict) -> None:
        """What the dataset's view showed until now may go."""
        planned: plan.Plan = job["job"]["plan"]
        for step in planned.steps:
            if path_keys.declared(planned.node):
                keyed.remove_unkeyed(planned.dataset_dir, step.date)
            elif not step.params:
                keyed.remove(planned.dataset_dir, step.date)
        keyed.tidy(planned.dataset_dir, [step.date for step in planned.steps])
        self._release(planned.node)

    # -- data tests --------------------------------------------------------------------------------------------------

    def _op_due(self, job: dict) -> None:
        """The dates that a data test reads of a relation: None for all, also of what is no dataset."""
        test, graph = job["test"], job["graph"]
        uid = test["unique_id"]
        if uid not in self.run.due:
            self.run.due[uid] = data_tests.due_dates(test, graph, lambda node: self._untested(node, graph))
        read = (graph["nodes"].get(parent) for parent in test["depends_on"]["nodes"])
        if any(node and plan.is_dataset(node) and node["alias"] == job["relation"] for node in read):
            job["dates"] = self.run.due[uid]

    def _untested(self, node: dict, graph: dict) -> set[str]:
        """By now the run has built the dataset: its tests come after it."""
        uid = node["unique_id"]
        if uid not in self.run.untested:
            self.run.untested[uid] = data_tests.untested(self.root, node, self._tests_digest(node, graph))
        return self.run.untested[uid]

    def _tests_digest(self, node: dict, graph: dict) -> str:
        uid = node["unique_id"]
        if uid not in self.run.tests_digests:
            tests = data_tests.of_dataset(node, graph)
            self.run.tests_digests[uid] = data_tests.digest(tests, graph, _macros())
        return self.run.tests_digests[uid]

    # -- the end of a run --------------------------------------------------------------------------------------------

    def _op_end(self, job: dict) -> None:
        """Mark the dates of every tested dataset ok or failed by the data tests that ran on it."""
        self._release_all()  # those of models that failed half-way
        graph = job["graph"]
        tests: dict[str, set[str]] = {}
        for node in graph["nodes"].values():
            if node["resource_type"] == "test":
                for uid in node["depends_on"]["nodes"]:
                    tests.setdefault(uid, set()).add(node["unique_id"])
        ran = {r.node.unique_id: str(r.status) for r in job["results"] if r.node.resource_type == "test"}
        failed = {uid for uid, status in ran.items() if status in ("fail", "error")}
        warned = {uid for uid, status in ran.items() if status == "warn"}
        passed = warned | {uid for uid, status in ran.items() if status == "pass"}
        for uid, node in graph["nodes"].items():
            mine = tests.get(uid, set())
            published = uid in self.run.published
            if not plan.is_dataset(node) or not (published or mine & (failed | passed)):
                continue
            if (siblings := active.building()) and plan.dataset_folder(node) not in siblings:
                continue  # a verdict on siblings says nothing of the version that readers see
            if mine & failed:
                names = sorted(graph["nodes"][test]["name"] for test in mine & failed)
                self._mark(node, f"data tests failed: {', '.join(names)}", dates=self._read_by(mine & failed))
            elif mine <= passed:  # some passed and the rest didn't run: nothing is known that wasn't
                # A warning is told by every run until it is mended, so its dates are read by every run.
                tested = None if mine & warned else self._tests_digest(node, graph)
                self._mark(node, None, tests_digest=tested, dates=self._read_by(mine))
            self._roll_up(node, self._version(node, graph, job["param_set"]))
        job["judged"] = self.run.judged
        if job["command"] == "build":
            rollup.write_rollups(self.root)
        self._record(job)

    def _record(self, job: dict) -> None:
        statuses = [str(r.status) for r in job["results"]]
        failed = sum(s in ("fail", "error") for s in statuses)
        runs.write_run(
            self.root,
            self.run.run_id,
            config={
                "command": f"dbt {job['command']}",
                "full_refresh": bool(job["full_refresh"]),
                **{k: _iso(job[k]) for k in ("param_set", "start_date", "end_date")},
            },
            counts={
                "nodes": len(statuses),
                "failed": failed,
                "skipped": statuses.count("skipped"),
                "partitions_published": sum(map(len, self.run.published.values())),
            },
            status="failed" if failed else "ok",
            started_at=self.run.started_at,
        )

    def _read_by(self, tests: set[str]) -> set[str] | None:
        """The dates that any of some data tests read, None for all."""
        read = [self.run.due.get(test) for test in tests]
        return set().union(*read) if read and None not in read else None

    def _mark(
        self, node: dict, error: str | None, *, dates: set[str] | None, tests_digest: str | None = None
    ) -> None:
        """The verdict on the dates that its tests have read; what they said of others stands."""
        verdict = {"status": "failed" if error else "ok", "error": error, "tests_digest": tests_digest}
        found = commits.read_partitions(plan.dataset_dir(self.root, node))
        for partition in found.values():
            if dates is None or partition.commit.date in dates:
                status = partition.status()
                if {k: status.get(k) for k in verdict} != verdict:
                    commits.mark(partition, error is None, error, self.run.run_id, tests_digest)

    # -- versions ----------------------------------------------------------------------------------------------------

    def _version(self, node: dict, graph: dict, override: str | None) -> dict | None:
        if not plan.meta(node).get("version_name") or plan.is_archived(self.root, node):
            return None
        values = plan.version_params(node, override)
        files = versions.version_code(node, graph, _macros())
        now = released.Now(values, files, override)
        # A released version is told as it was released, whatever the checkout would make of it now.
        if old := released.read(self.root, plan.dataset_folder(node)):
            return {
                "intent": old.intent,
                "params": old.values,
                "files": old.files,
                "build_digest": old.build_digest,
                "now": now,
            }
        meaning = versions.intent(node, values)
        digest = versions.build_digest(meaning, values.digest, versions.code.digest(files))
        return {"intent": meaning, "params": values, "files": files, "build_digest": digest, "now": now}

    def _roll_up(self, node: dict, version: dict | None) -> None:
        if version is None or not plan.meta(node).get("writes_manifest"):
            return
        folder = self.root / "lake" / plan.dataset_folder(node)
        found = [*commits.read_partitions(folder).values()]
        versions.write_manifest(folder, version["intent"], version["params"], version["files"], found)

    # -- locks -------------------------------------------------------------------------------------------------------

    def _release(self, node: dict) -> None:
        if locks := self.locks.pop(node["unique_id"], None):
            locks.release()

    def _release_all(self) -> None:
        while self.locks:
            self.locks.popitem()[1].release()


def _freeze() -> None:
    """The collector leaves alone what dbt has parsed: each full collection of a run would walk it once more. What the
    run before this one left in the same process is let go."""
    if gc.get_freeze_count():
        gc.unfreeze()
        gc.collect()
    gc.freeze()


def _shown(partitions: Iterable[commits.Partition]) -> set[tuple[str, Path]]:
    """What a view over these hangs on: their files and, as those of other code may lack a column, their code."""
    return {(p.commit.code_digest, path) for p in partitions for path in p.paths}


def _macros() -> dict:
    # The Jinja graph has no macros; the adapter's own resolver is the manifest. A test pins this private attribute.
    return FACTORY.adapters["duckdb"]._macro_resolver.macros


def _connection() -> duckdb.DuckDBPyConnection:
    """The connection of the model that is built: its session variables say which date."""
    return FACTORY.adapters["duckdb"].connections.get_thread_connection().handle.cursor()


def _partition_column(node: dict) -> str:
    return plan.meta(node).get("partition", "session_date")


def _lineage_columns(node: dict) -> list[str]:
    return [c["name"] for c in node["columns"].values() if code.is_lineage(c)]


def _source_keys(graph: dict, name: str) -> list[str]:
    return next(s["meta"]["keys"] for s in graph["sources"].values() if s["name"] == name)


def _iso(value: object) -> str | None:
    return None if value is None else str(value)


def _span(start: object, end: object) -> tuple[str | None, str | None]:
    """The dates that narrow a build, as ISO text: compared as text, so `tomorrow` must not pass."""
    for name, value in (("start_date", start), ("end_date", end)):
        if value is not None:
            try:
                if date.fromisoformat(str(value)).isoformat() != str(value):
                    raise ValueError
            except ValueError:
                raise plan.PlanError(f"{name} was {value!r}, expected a date such as 2025-12-15") from None
    if start is not None and end is not None and str(start) >= str(end):
        raise plan.PlanError(
            f"start_date was {start}, expected one before end_date = {end}, which is exclusive"
        )
    return _iso(start), _iso(end)
