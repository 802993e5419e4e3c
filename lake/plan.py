"""Which partitions a dataset has to build, and what each of them reads (architecture D3).

A partition is due when its inputs have it and the dataset lacks it, or when its build key differs: its own code and
config, its params, and the content digests of exactly the partitions that its date map names.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lake import active, bronze, calendar, code, date_maps, params, path_keys, released, windows
from lake.commits import Partition, read_partitions


class PlanError(ValueError):
    """A model's declaration can't be planned: an unknown parent in a date map, a missing column type, …"""


@dataclass
class Step:
    """One partition to build: its params and date, and what it reads.

    ``kept`` is the partition that stands there, where it is of a released version: the rebuild is compared with it.
    """

    date: str
    params: params.ParamSet | None
    folder: Path
    build_key: str
    inputs: dict[str, str]
    dates: dict[str, list[str]]
    bronze_files: dict[str, tuple[list[Path], list[Path]]]
    # By bronze source, also one of which only the gaps are read (`gaps_of`): see `bronze.known`.
    known: dict[str, dict]
    # By source of hour windows, those of the date that more rows may come to: `YYYY-MM-DDTHH`.
    provisional: dict[str, list[str]]
    # By the same, the end of the last sealed window of the date; None without one.
    sealed_through: dict[str, str | None]
    kept: Partition | None = None


@dataclass
class Plan:
    """What one run builds of a dataset. ``parents`` are the datasets it reads, with the partitions they had.

    ``release`` is set for a dataset of a released version: of its steps those of released dates come first.
    """

    node: dict
    dataset: str
    dataset_dir: Path
    code_files: dict[str, str]
    code_digest: str
    parents: list[tuple[dict, dict[tuple[str | None, str], Partition]]]
    gaps_of: list["_Bronze"] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    total: int = 0
    release: released.Released | None = None


@dataclass
class _Bronze:
    """Files of one source that are read, by the session whose window their span overlaps."""

    name: str
    by_session: dict[str, list[bronze.BronzeFile]]
    shared: set[tuple]


@dataclass
class _Windows:
    """Execution bronze of one source by UTC date: the files to read, what build keys see of its windows, and which of
    these aren't sealed."""

    name: str
    files: dict[str, list[Path]]
    inputs: dict[str, dict[str, str]]
    provisional: dict[str, list[str]]
    sealed_through: dict[str, str]


@dataclass
class _Parent:
    """One dataset that is read: its partitions, and the date map by which it is (`partition: date`)."""

    node: dict
    partitions: dict[tuple[str | None, str], Partition]
    read: date_maps.Read | None = None
    dates: date_maps.Dates | None = None
    indexes: list[date_maps.Index] = field(default_factory=list)


def meta(node: dict) -> dict:
    return node["config"].get("meta", {})


def dataset_folder(node: dict) -> str:
    """Folder of a dataset below ``lake/``: ``silver/datasets/<name>``, unless its meta says ``folder``."""
    return meta(node).get("folder") or f"{node['config']['schema']}/datasets/{node['alias']}"


def dataset_dir(root: Path, node: dict) -> Path:
    """Where a dataset stands now: its folder, or that of the version which readers see."""
    return root / "lake" / active.folder(root, dataset_folder(node))


def is_dataset(node: dict) -> bool:
    return node["resource_type"] == "model" and node["config"].get("materialized") == "dataset"


def per_params(node: dict) -> bool:
    return bool(meta(node).get("per_params"))


def version_params(node: dict, override: str | None) -> params.ParamSet | None:
    """The param set of a feature version (or of a table made from one); ``override`` is the invocation's."""
    name = meta(node).get("param_set")
    return None if name is None else params.load(override or name)


def version_name(node: dict) -> str | None:
    """Folder name of the version that a dataset is of, ``v1.0_mechanics_only``; None for all others."""
    return dataset_folder(node).rpartition("/")[2] if meta(node).get("version_name") else None


def is_archived(root: Path, node: dict) -> bool:
    name = version_name(node)
    return name is not None and released.state(root, name) == "archived"


def active_params(
    graph: dict, selected: Iterable[str], override: str | None, root: Path | None = None
) -> list[params.ParamSet]:
    """Every distinct param set that a version of this run names; of all versions when the run selects none.

    With ``root``, a version that is archived there counts no more.
    """
    versions = [
        n
        for n in graph["nodes"].values()
        if is_dataset(n) and meta(n).get("param_set") and not (root and is_archived(root, n))
    ]
    chosen = [n for n in versions if n["unique_id"] in set(selected)] or versions
    sets = {p.digest: p for n in chosen if (p := version_params(n, override))}
    return [sets[d] for d in sorted(sets)]


def plan(
    root: Path,
    node: dict,
    graph: dict,
    macros: dict,
    *,
    selected: Iterable[str] = (),
    param_set: str | None = None,
    start_date: str | None = None,
    end_date: str | None = None,
    full_refresh: bool = False,
    visible: list[bronze.BronzeFile] | None = None,
) -> Plan:
    """Plan one dataset. Reads commit records and the calendar only; writes nothing.

    ``visible`` are the bronze files where the caller has listed them: the datasets of a run see one bronze.
    ``start_date`` (inclusive) and ``end_date`` (exclusive) are ISO dates that narrow what is built.
    """
    views, parents, sources, seeds = _lineage(node, graph)
    _check_reads(node, parents, sources)
    files = code.own_code(node, views, macros)
    folder = dataset_dir(root, node)
    committed = read_partitions(folder)
    read = _parents(root, node, graph, parents)
    result = Plan(
        node=node,
        dataset=folder.relative_to(root / "lake").as_posix(),
        dataset_dir=folder,
        code_files=files,
        code_digest=code.digest(files),
        parents=[(p.node, p.partitions) for p in read],
    )
    if is_archived(root, node):
        result.total = len(committed)
        return result
    if version_name(node):
        result.release = released.read(root, result.dataset)
    reads = meta(node).get("reads", {})
    landed = [s["name"] for s in sources if not s["meta"].get("windows")]
    bronzes = _bronzes(root, {name: reads.get(name, {}).get("keys", {}) for name in landed}, visible)
    result.gaps_of = _bronzes(root, meta(node).get("gaps_of", {}), visible)
    windowed = [_windows(root, s["name"]) for s in sources if s["meta"].get("windows")]
    if per_params(node):
        sets: list[params.ParamSet | None] = [*active_params(graph, selected, param_set, root)]
    else:
        sets = [version_params(node, param_set)]
    for values in sets:
        folder_params = values.digest8 if per_params(node) else None
        # A committed date whose inputs are gone is due as well: it is built anew from what is left.
        dates = {d for (p, d) in committed if p == folder_params}.union(*(w.inputs for w in windowed))
        for date in sorted(dates | _candidates(node, read, bronzes, values)):
            result.total += 1
            if (start_date and date < start_date) or (end_date and date >= end_date):
                continue
            step = _step(result, date, values, folder_params, read, bronzes, windowed, seeds)
            old = committed.get((folder_params, date))
            if (
                old
                and not full_refresh
                and old.commit.inputs == step.inputs
                and "copied_from" in old.commit.extra
            ):
                continue  # of another version, by the code of its day, until something that it read changes
            if result.release:
                step.kept = old
                if old and not full_refresh and released.is_settled(old, step.build_key):
                    continue
            if full_refresh or old is None or old.commit.build_key != step.build_key:
                result.steps.append(step)
    if result.release:
        result.steps.sort(key=lambda step: step.kept is None)
    return result


def dataset_parents(node: dict, graph: dict) -> list[dict]:
    """The datasets that a dataset reads, and those whose indexes say which dates."""
    found = {p["unique_id"]: p for p in _lineage(node, graph)[1]}
    if date_maps.is_by_utc_date(node):
        for read in date_maps.reads(node, graph).values():
            found |= {n["unique_id"]: n for alias, _ in read.dates_of for n in [_by_alias(graph, alias)]}
    return [found[uid] for uid in sorted(found)]


def _by_alias(graph: dict, alias: str) -> dict:
    return next(n for n in graph["nodes"].values() if n["resource_type"] == "model" and n["alias"] == alias)


def _parents(root: Path, node: dict, graph: dict, parents: list[dict]) -> list[_Parent]:
    """The datasets that are read, with their partitions; for a model by UTC date with the date maps, resolved."""
    found = [_Parent(p, read_partitions(dataset_dir(root, p))) for p in parents]
    if not date_maps.is_by_utc_date(node):
        return found
    reads = date_maps.reads(node, graph)
    records: dict[str, list] = {}
    held = {parent.node["alias"]: parent.partitions for parent in found}
    for alias in {alias for read in reads.values() for alias, _ in read.dates_of}:
        if alias not in held:
            held[alias] = read_partitions(dataset_dir(root, _by_alias(graph, alias)))
        records[alias] = [p.commit.indexes for p in held[alias].values()]
    for parent in found:
        parent.read = reads.get(parent.node["alias"], date_maps.Read())
        parent.dates = date_maps.Dates(
            {d: p.commit.content_digest for (_, d), p in parent.partitions.items()}
        )
        parent.indexes = [date_maps.merged(records[alias], name) for alias, name in parent.read.dates_of]
    return found


def _lineage(node: dict, graph: dict) -> tuple[list[dict], list[dict], list[dict], list[dict]]:
    """What a dataset reads, seen through the views between: (views, datasets, sources, seeds)."""
    views, datasets, sources, seeds = {}, {}, {}, {}
    todo = [(uid, None) for uid in node["depends_on"]["nodes"]]
    while todo:
        uid, view = todo.pop()
        if uid in graph["sources"]:
            sources[uid] = graph["sources"][uid]
            continue
        parent = graph["nodes"][uid]
        if view and (is_dataset(parent) or meta(parent).get("dated_by")):
            # A view is made once and shows every date, so what came through it could not be told by date.
            raise PlanError(
                f"{node['name']} reads {parent['alias']} through the view {view}, which would show it all dates; "
                f"read {parent['alias']} itself, or make {view} a dataset"
            )
        if parent["resource_type"] == "seed":
            seeds[uid] = parent
        elif is_dataset(parent):
            datasets[uid] = parent
        else:
            views[uid] = parent
            todo += [(up, parent["name"]) for up in parent["depends_on"]["nodes"]]
    return ([*views.values()], *([d[k] for k in sorted(d)] for d in (datasets, sources, seeds)))


def _check_reads(node: dict, parents: list[dict], sources: list[dict]) -> None:
    if not set(meta(node).get("key") or ["?"]) <= set(node["columns"]):
        raise PlanError(
            f"{node['name']}: meta.key was {meta(node).get('key')}, expected a list of its columns, by which a "
            "partition is sorted and unique"
        )
    reads = meta(node).get("reads") or {}
    known = {p["alias"] for p in parents}
    # Hour windows are read on their own dates; `reads` of other sources says their keys.
    known |= set() if date_maps.is_by_utc_date(node) else {s["name"] for s in sources}
    if unknown := sorted(set(reads) - known):
        raise PlanError(
            f"{node['name']}: meta.reads names {', '.join(unknown)}, but it reads "
            f"{', '.join(sorted(known)) or 'no dataset'}"
        )
    if not date_maps.is_by_utc_date(node):
        for parent, options in reads.items():
            if wrong := sorted(set(options) & {"days_before", "days_after", "dates_of"}):
                raise PlanError(
                    f"{node['name']}: meta.reads of {parent} had {', '.join(wrong)}, expected these of a model with "
                    "`partition: date`"
                )
    date_maps.declared_indexes(node)
    path_keys.declared(node)
    maps = [reads.get(p["alias"]) or {} for p in parents]
    if not sources and not any(m.get("own", True) or m.get("dates_of") for m in maps):
        raise PlanError(
            f"{node['name']} reads no dataset or source on its own dates, so it would have none; a table without "
            "dates is a seed or a view"
        )
    for parent in parents:
        if per_params(parent) and not per_params(node) and not meta(node).get("param_set"):
            raise PlanError(
                f"{node['name']} reads {parent['alias']}, which is built per param set; give it `per_params: true` "
                "or, for a version, a `param_set`"
            )


def _bronzes(
    root: Path, sources: dict[str, dict[str, str]], visible: list[bronze.BronzeFile] | None
) -> list[_Bronze]:
    """Files of some sources, each narrowed to the partition keys that are given with it."""
    if not sources:
        return []
    files = bronze.visible_files(root) if visible is None else visible
    files = [f for f in files if not f.is_superseded]
    shared = bronze.shared_hours(files)
    sessions = calendar.load()
    found = []
    for name, keys in sources.items():
        by_session: dict[str, list[bronze.BronzeFile]] = {}
        for f in files:
            if f.source_name == name and all(f.key.get(k) == v for k, v in keys.items()):
                for session in sessions.overlapping(f.ts_min_ns, f.ts_max_ns):
                    by_session.setdefault(session.date, []).append(f)
        found.append(_Bronze(name, by_session, shared))
    return found


def _windows(root: Path, name: str) -> _Windows:
    """Markers enter build keys, and with them what a day record or the archive stands for; the state does as far as it
    says whether rows may still come.
    """
    found = _Windows(name, {}, {}, {}, {})
    for marker in windows.read_markers(root, name):
        is_open = marker.state == "provisional"
        hours = found.provisional.setdefault(marker.date, [])
        if is_open and (hour := marker.window_start[:13]) not in hours:
            hours.append(hour)
        if not is_open:
            end = max(marker.window_end, found.sealed_through.get(marker.date, ""))
            found.sealed_through[marker.date] = end
        key = f"bronze/{name}/{marker.date}/{marker.file_name}"
        found.inputs.setdefault(marker.date, {})[key] = code.sha256_text(
            f"{marker.content_hash} {is_open} {marker.incomplete}"
        )
    for part in windows.visible_parts(root, name):
        found.files.setdefault(part.date, []).append(part.path)
    return found


def _map_dates(node: dict, parent: dict, date: str, values: params.ParamSet | None) -> list[str]:
    """The parent's dates that a date reads: its own, and as many sessions before it as the model declares."""
    reads = meta(node).get("reads", {}).get(parent["alias"], {})
    dates = [date] if reads.get("own", True) else []
    count = reads.get("sessions_before", 0)
    if isinstance(count, str):
        if values is None or count not in values.values:
            raise PlanError(
                f"{node['name']}: sessions_before of {parent['alias']} was {count!r}, expected a number or a "
                "parameter of its param set"
            )
        count = values.values[count]
    return (calendar.load().before(date, count) if count else []) + dates


def _candidates(
    node: dict, parents: list[_Parent], bronzes: list[_Bronze], values: params.ParamSet | None
) -> set[str]:
    dates = {d for b in bronzes for d in b.by_session}
    for parent in parents:
        is_own = meta(node).get("reads", {}).get(parent.node["alias"], {}).get("own", True)
        if parent.read.own if parent.read else is_own:
            wanted = values.digest8 if per_params(parent.node) else None
            dates |= {d for (p, d) in parent.partitions if p == wanted}
        dates.update(*parent.indexes)
    return dates


def _step(
    plan: Plan,
    date: str,
    values: params.ParamSet | None,
    folder_params: str | None,
    parents: list[_Parent],
    bronzes: list[_Bronze],
    windowed: list[_Windows],
    seeds: list[dict],
) -> Step:
    node = plan.node
    inputs: dict[str, str] = {}
    dates: dict[str, list[str]] = {}
    for parent in parents:
        alias, place = parent.node["alias"], dataset_folder(parent.node)
        if parent.read:
            dates[alias], found = date_maps.dates_read(parent.read, date, parent.dates, parent.indexes)
            inputs |= {f"{place}/{d}": digest for d, digest in found.items()}
            continue
        wanted = values.digest8 if per_params(parent.node) else None
        dates[alias] = []
        for d in _map_dates(node, parent.node, date, values):
            if partition := parent.partitions.get((wanted, d)):
                dates[alias].append(d)
                inputs[f"{place}/{d}"] = partition.commit.content_digest
    bronze_files: dict[str, tuple[list[Path], list[Path]]] = {}
    known: dict[str, dict] = {}
    for b in bronzes:
        files = sorted(b.by_session.get(date, []), key=lambda f: (f.date, f.hour, f.delivery_id, f.name))
        bronze_files[b.name] = (
            bronze.paths(f for f in files if f.hour_key not in b.shared),
            bronze.paths(f for f in files if f.hour_key in b.shared),
        )
        known[b.name] = bronze.known(files)
        for f in files:
            inputs[f"bronze/{b.name}/{f.date}/{f.hour:02d}/{f.name}"] = code.sha256_text(
                f.content_digest + f.state
            )
    for b in plan.gaps_of:
        known[b.name] = bronze.known(b.by_session.get(date, []))
        if gaps := known[b.name]["gaps"]:
            inputs[f"gaps/{b.name}"] = code.sha256_text(params.canonical_json(gaps))
    for w in windowed:
        bronze_files[w.name] = (w.files.get(date, []), [])
        inputs |= w.inputs.get(date, {})
    for seed in seeds:
        if meta(seed).get("dated_by"):
            inputs[f"seed/{seed['alias']}/{date}"] = calendar.load().session(date).row_digest
        else:
            types = seed["config"].get("column_types") or {}
            inputs[f"seed/{seed['alias']}"] = code.sha256_text(
                seed["checksum"]["checksum"] + params.canonical_json(types)
            )
    key = {"code": plan.code_digest, "params": values.digest if values else None, "inputs": inputs}
    folder = plan.dataset_dir / f"params={folder_params}" if folder_params else plan.dataset_dir
    return Step(
        date=date,
        params=values,
        folder=folder / f"date={date}",
        build_key=code.sha256_text(params.canonical_json(key)),
        inputs=dict(sorted(inputs.items())),
        dates=dates,
        bronze_files=bronze_files,
        known=known,
        provisional={w.name: w.provisional.get(date, []) for w in windowed},
        sealed_through={w.name: w.sealed_through.get(date) for w in windowed},
    )


def input_digest(inputs: dict[str, str]) -> str:
    """sha256 over the sorted (parent and date, content digest) that a partition was built from."""
    return hashlib.sha256("\n".join(f"{k} {v}" for k, v in sorted(inputs.items())).encode()).hexdigest()
