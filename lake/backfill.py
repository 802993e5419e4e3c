"""Backfill: another version of a dataset beside the one that readers see, compared with it, then swapped.

Dates of a range are computed again by the code of the checkout, the others are copies; data tests run on the whole.
Until the swap nobody reads it, and what readers see, bronze and gold aren't touched. Source: spec/execution.md 8.2.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lake import active, atomic, backfill_diff, commits, dbt, plan, project
from lake.locks import Locks
from lake.paths import PROJECT_DIR, stage_dir

SIBLING_FILE = "backfill.json"
KEPT_DAYS = 30
LOCK_TIMEOUT_S = 600


class BackfillError(ValueError):
    """A backfill or swap that can't be; the message says what to do."""


@dataclass(frozen=True)
class Request:
    """``start`` inclusive and ``end`` exclusive are ISO dates, ``target`` is the version to make."""

    dataset: str
    start: str
    end: str
    target: int
    overwrite: bool = False

    def check(self) -> None:
        """Raises BackfillError for what can't be asked for."""
        _known(self.dataset)
        for name, value in (("start", self.start), ("end", self.end)):
            with contextlib.suppress(ValueError):
                if datetime.date.fromisoformat(value).isoformat() == value:
                    continue
            raise BackfillError(f"{name} was {value!r}, expected a date such as 2024-12-01")
        if self.start >= self.end:
            raise BackfillError(
                f"start was {self.start}, expected one before end = {self.end}, which is exclusive"
            )
        if self.target < 2:
            raise BackfillError(
                f"target version was {self.target}, expected 2 or more: the first is what is built first"
            )


@dataclass(frozen=True)
class Row:
    """What a backfill does, or would do, with one dataset of the version."""

    dataset: str
    sibling: str
    computed: int
    copied: int
    dates: list[str] = field(default_factory=list)  # that are computed

    def flat(self) -> dict[str, object]:
        return {
            "dataset": self.dataset,
            "sibling": self.sibling,
            "computed_dates": self.computed,
            "copied_dates": self.copied,
            "first_date": self.dates[0] if self.dates else None,
            "last_date": self.dates[-1] if self.dates else None,
        }


@dataclass(frozen=True)
class Report:
    rows: list[Row]
    diff: dict[str, Any]
    files: list[Path]
    problem: str | None  # why it can't be swapped: data tests that failed on it


def preview(root: Path, request: Request, *, project_dir: Path = PROJECT_DIR) -> list[Row]:
    """What `run` would compute and copy; writes nothing."""
    request.check()
    _check_target(root, request)
    with _scratch(root, request, project_dir) as (graph, macros, _):
        return _rows(root, request, graph, macros)


def run(
    root: Path,
    request: Request,
    *,
    project_dir: Path = PROJECT_DIR,
    on_node: Callable[[str], None] = lambda name: None,
) -> Report:
    """Make the version, test it, compare it. A call that was killed is gone on with by an equal one.

    Raises BackfillError, and RuntimeError when a model fails.
    """
    request.check()
    _check_target(root, request)
    with _alone(root), _scratch(root, request, project_dir) as (graph, macros, options):
        members = _members(graph, request.dataset)
        folders = {f: active.sibling(f, request.target) for f in members}
        if request.overwrite:
            for sibling in reversed(folders.values()):
                shutil.rmtree(root / "lake" / sibling, ignore_errors=True)
        from_version = active.version(root, request.dataset)
        rows = _rows(root, request, graph, macros)
        state = _write_state(root, request, {"from_version": from_version, "members": [*members]})
        for folder in members:
            _copy_others(root, request, folder)
        names = [n["name"] for n in members.values()]
        with _building(folders):
            variables = {"start_date": request.start, "end_date": request.end}
            on_event = _told(on_node)
            dbt.invoke(["run", "--select", *names], variables=variables, on_event=on_event, **options)
            problem = None
            try:
                tests = ["test", "--select", *names, "--exclude-resource-type", "unit_test"]
                dbt.invoke(tests, on_event=on_event, **options)
            except RuntimeError as error:
                problem = str(error)
        diff = backfill_diff.compare(
            root,
            request.dataset,
            [n for n in members.values() if n["config"].get("access") != "private"],
            (from_version, request.target),
            (request.start, request.end),
        )
        files = backfill_diff.write(
            root / "lake" / folders[active.DATASETS[request.dataset]] / "_metadata", diff
        )
        _write_state(
            root, request, {**state, "state": "failed" if problem else "complete", "problem": problem}
        )
    return Report(rows, diff, files, problem)


def swap(
    root: Path, dataset: str, to: int, *, project_dir: Path = PROJECT_DIR, target_path: Path | None = None
) -> int:
    """Make version ``to`` what readers see and builds write; returns the version before.

    ``active.json`` is the switch: views are made anew right after it, and by every later run. Raises BackfillError.
    """
    _known(dataset)
    before = active.version(root, dataset)
    members = _check_swap(root, dataset, to)
    with _alone(root):
        _check_database(root)
        held = active.record(root, dataset) or {"published": [1]}
        now = datetime.datetime.now(datetime.UTC)
        if to != before:
            kept = (now + datetime.timedelta(KEPT_DAYS)).date().isoformat()
            content = {
                "record_version": active.RECORD_VERSION,
                "dataset": active.DATASETS[dataset],
                "version": to,
                "members": members,
                "published": sorted({*held["published"], to}),
                "previous": before,
                "previous_kept_until": kept,
                "swapped_at": commits.now_utc(),
            }
            path = active.record_path(root, dataset)
            atomic.make_dirs(path.parent)
            locks = Locks(stage_dir(root))
            both = {active.sibling(f, v) for f in members for v in (before, to)}
            locks.take(active.DATASETS[dataset], both - {active.DATASETS[dataset]}, LOCK_TIMEOUT_S)
            try:
                atomic.write_json(path, content)
            finally:
                locks.release()
        dbt.invoke(
            ["run-operation", "lake_register"], root=root, project_dir=project_dir, target_path=target_path
        )
    return before


# -- checks ------------------------------------------------------------------------------------------------------------


def _known(dataset: str) -> None:
    if dataset not in active.DATASETS:
        raise BackfillError(f"dataset was {dataset}, expected {' or '.join(active.DATASETS)}")


def _sibling_dir(root: Path, dataset: str, number: int) -> Path:
    return root / "lake" / active.sibling(active.DATASETS[dataset], number)


def state_of(root: Path, dataset: str, number: int) -> dict[str, Any] | None:
    """``backfill.json`` of a version: its range, the version it was made from, and whether it is whole."""
    path = _sibling_dir(root, dataset, number) / "_metadata" / SIBLING_FILE
    return atomic.read_json(path) if path.is_file() else None


def _check_target(root: Path, request: Request) -> None:
    held = active.record(root, request.dataset) or {"version": 1, "published": [1]}
    if request.target in held["published"]:
        raise BackfillError(
            f"version {request.target} of {request.dataset} was published, and readers have seen it; name another one"
        )
    found = state_of(root, request.dataset, request.target)
    if found is None or request.overwrite:
        return
    if found["state"] == "building":
        was, wanted = (found["start"], found["end"]), (request.start, request.end)
        if was == wanted and found["from_version"] == held["version"]:
            return  # gone on with
        told = f"was begun for {' to '.join(was)} from version {found['from_version']}"
    else:
        told = f"exists, of {found['start']} to {found['end']}"
    raise BackfillError(f"version {request.target} of {request.dataset} {told}; --overwrite makes it anew")


def _check_swap(root: Path, dataset: str, to: int) -> list[str]:
    """The datasets that go with it. Raises BackfillError for a version that isn't there, or isn't whole."""
    held = active.record(root, dataset)
    there = sorted(
        int(number)
        for path in _sibling_dir(root, dataset, 1).parent.glob(f"{_sibling_dir(root, dataset, 1).name}_v*")
        if (number := path.name.rpartition("_v")[2]).isdigit() and state_of(root, dataset, int(number))
    )
    if to == 1:
        newest = max((n for n in there), default=None)
        if held is None and newest is None:
            raise BackfillError(f"{dataset} has but version 1, which is what readers see")
        return held["members"] if held else state_of(root, dataset, newest)["members"]
    found = state_of(root, dataset, to)
    if found is None:
        known = ", ".join(map(str, [1, *there]))
        raise BackfillError(
            f"version was {to}, expected one that is there: {known}; `tickhouse backfill` makes others"
        )
    if found["state"] != "complete":
        why = found["problem"] or "it was not built to its end; run the same backfill again"
        raise BackfillError(f"version {to} of {dataset} can't be swapped in: {why}")
    return found["members"]


def _check_database(root: Path) -> None:
    """Views have to follow the record at once: refuse while another process holds the database."""
    import duckdb  # noqa: PLC0415

    path = root / "lake.duckdb"
    try:
        duckdb.connect(str(path)).close()
    except duckdb.Error as error:
        raise BackfillError(
            f"{path.name} is in use ({str(error).splitlines()[0]}); leave that shell or wait for that process, then "
            "swap again; nothing was changed"
        ) from error


# -- building ----------------------------------------------------------------------------------------------------------


def _members(graph: dict, dataset: str) -> dict[str, dict]:
    """Models of the version by folder, the dataset itself last."""
    main = active.DATASETS[dataset]
    found = {
        plan.dataset_folder(n): n
        for n in graph["nodes"].values()
        if plan.is_dataset(n) and plan.meta(n).get("versioned_with") == dataset
    }
    if main not in found:
        raise BackfillError(f"no model of {main} says `versioned_with: {dataset}`, expected one in its meta")
    return dict(sorted(found.items(), key=lambda kv: (kv[0] == main, kv[0])))


def _rows(root: Path, request: Request, graph: dict, macros: dict) -> list[Row]:
    """Dates to compute are those of the active version and those that the inputs have, in the range."""
    rows = []
    for folder, node in _members(graph, request.dataset).items():
        planned = plan.plan(
            root, node, graph, macros, start_date=request.start, end_date=request.end, full_refresh=True
        )
        have = [d for _, d in commits.read_partitions(root / "lake" / active.folder(root, folder))]
        dates = [step.date for step in planned.steps]
        copied = [d for d in have if not request.start <= d < request.end]
        rows.append(Row(folder, active.sibling(folder, request.target), len(dates), len(copied), dates))
    return rows


def _copy_others(root: Path, request: Request, folder: str) -> None:
    """Copy the dates outside of the range from the version that readers see; those that stand already are left."""
    source, name = active.folder(root, folder), active.sibling(folder, request.target)
    target = root / "lake" / name
    locks = Locks(stage_dir(root))
    locks.take(name, [source], LOCK_TIMEOUT_S)
    try:
        have = commits.read_partitions(target)
        for key, partition in commits.read_partitions(root / "lake" / source).items():
            if request.start <= partition.commit.date < request.end:
                continue
            extra = {k: v for k, v in partition.commit.extra.items() if k != "archived"}
            commit = dataclasses.replace(
                partition.commit, dataset=name, extra={**extra, "copied_from": source}
            )
            if key not in have or have[key].commit.content_digest != commit.content_digest:
                _copy(root, partition, target, commit)
    finally:
        locks.release()


def _copy(root: Path, partition: commits.Partition, target: Path, commit: commits.Commit) -> None:
    if not partition.is_keyed:
        staged = stage_dir(root) / f"backfill@{commit.date}.parquet"
        _link(partition.file, staged)
        commits.publish(staged, target / f"date={commit.date}", commit)
        return
    files = [{k: v for k, v in f.items() if k != "archived"} for f in commit.files]
    new = commits.Partition(target, dataclasses.replace(commit, files=files))
    for file, held in zip(files, partition.key_files, strict=True):
        atomic.make_dirs((target / file["path"]).parent)
        _link(held.path, target / file["path"])
    atomic.make_dirs(new.metadata)
    commits.write_record(new)


def _link(source: Path, target: Path) -> None:
    """A second name where the file system allows it: partitions are replaced and never written to."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        atomic.fsync_file(target)


def _write_state(root: Path, request: Request, more: dict[str, Any]) -> dict[str, Any]:
    path = _sibling_dir(root, request.dataset, request.target) / "_metadata" / SIBLING_FILE
    atomic.make_dirs(path.parent)
    content = {
        "record_version": 1,
        "dataset": active.sibling(active.DATASETS[request.dataset], request.target),
        "version": request.target,
        "start": request.start,
        "end": request.end,
        "state": "building",
        "problem": None,
        "made_at": commits.now_utc(),
        **more,
    }
    atomic.write_json(path, content)
    return content


@contextlib.contextmanager
def _scratch(root: Path, request: Request, project_dir: Path) -> Iterator[tuple[dict, dict, dict[str, Any]]]:
    """The project parsed, for dbt runs on this lake with a database of their own: (graph, macros, options)."""
    folder = stage_dir(root) / f"backfill-{request.dataset}"
    shutil.rmtree(folder, ignore_errors=True)
    atomic.make_dirs(folder)
    try:
        with _environment("LAKE_DB", str(folder / "lake.duckdb")):
            options = {"root": root, "project_dir": project_dir, "target_path": folder / "target"}
            graph, macros = project.load(**options)
            yield graph, macros, options
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _building(folders: dict[str, str]) -> contextlib.AbstractContextManager[None]:
    return _environment(active.BUILDING, json.dumps(folders))


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One backfill or swap at a time."""
    atomic.make_dirs(stage_dir(root))
    locks = Locks(stage_dir(root))
    locks.take("backfill", [], LOCK_TIMEOUT_S)
    try:
        yield
    finally:
        locks.release()


def _told(on_node: Callable[[str], None]) -> Callable[[Any], None]:
    def on_event(event: Any) -> None:
        if event.info.name in ("LogModelResult", "LogTestResult"):
            on_node(event.data.node_info.node_name)

    return on_event
