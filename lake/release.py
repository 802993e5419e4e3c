"""Releasing a feature version: from then on its dates, and those of its training table, do not change.

Source: spec/market.md 11.3; architecture D5.
"""

from collections.abc import Mapping
from pathlib import Path

from lake import commits, plan, released, variance, versions
from lake.locks import Locks
from lake.paths import stage_dir

LOCK_TIMEOUT_S = 600


class NotReleasable(ValueError):
    """E_NOT_RELEASABLE: the version can't be released; the message says what is missing."""


def release(root: Path, version: str, graph: Mapping, macros: Mapping) -> None:
    """Release ``version`` as the project in ``graph`` and ``macros`` (dbt's) made it.

    It needs at least one date; each date, of the training table too, must have passed its data tests, and none of
    them, nor of what they are made from, may be due: a release says which code and params its dates come from. No
    feature may be constant or another's copy.
    Releasing again changes nothing. Raises NotReleasable.
    """
    nodes = version_nodes(graph, version)
    features = nodes[0]
    folder = root / "lake" / plan.dataset_folder(features)
    if released.state(root, version) == "archived":
        raise _refusal(version, "is archived, expected a draft; a version that is archived stays so")
    locks = Locks(stage_dir(root))
    stage_dir(root).mkdir(parents=True, exist_ok=True)
    mine = [plan.dataset_folder(node) for node in nodes]
    locks.take(mine[0], mine[1:], LOCK_TIMEOUT_S)
    try:
        if released.state(root, version) == "draft":
            _check(root, version, nodes, graph, macros)
            parts = [_as_it_is(version, node, graph, macros) for node in nodes]
            for node in nodes:
                for partition in commits.read_partitions(root / "lake" / plan.dataset_folder(node)).values():
                    released.write_ancestry(root, partition)
            released.write(root, version, parts)
        part = released.read(root, mine[0])
        found = [*commits.read_partitions(folder).values()]
        versions.write_manifest(folder, part.intent, part.values, part.files, found)
    finally:
        locks.release()


def version_nodes(graph: Mapping, version: str) -> list[dict]:
    """The datasets of a version in dbt's graph: its features, and its training table where there is one.

    Raises NotReleasable when the project has no such version.
    """
    datasets = [n for n in graph["nodes"].values() if plan.is_dataset(n) and plan.version_name(n)]
    features = {
        plan.version_name(n): n for n in datasets if plan.dataset_folder(n).startswith("silver/features/")
    }
    if version not in features:
        raise NotReleasable(
            f"version was {version!r}, expected one that this project makes: {', '.join(sorted(features)) or 'none'}"
        )
    tables = [n for n in datasets if plan.version_name(n) == version and n is not features[version]]
    return [features[version], *tables]


def _check(root: Path, version: str, nodes: list[dict], graph: Mapping, macros: Mapping) -> None:
    again = f"run `dbt build --select {' '.join('+' + selector(n) for n in nodes)}` and release it then"
    for node in nodes:
        found = commits.read_partitions(root / "lake" / plan.dataset_folder(node)).values()
        if node is nodes[0] and not found:
            raise _refusal(version, f"has no date, expected at least one; {again}")
        failed = {p.commit.date: s["error"] for p in found if (s := p.status())["status"] != "ok"}
        if failed:
            date, error = next(iter(failed.items()))
            raise _refusal(
                version,
                f"has {len(failed)} of {len(found)} dates in {node['alias']} that are not ok, the first is {date}: "
                f"{error}; {again}",
            )
    files = [p.file for p in commits.read_partitions(root / "lake" / plan.dataset_folder(nodes[0])).values()]
    if faults := variance.silent(files, _features(nodes[0])):
        raise _refusal(
            version,
            f"has {len(faults)} features that say nothing: {'; '.join(faults[:5])}"
            f"{f' and {len(faults) - 5} more' if len(faults) > 5 else ''}; build more dates, or leave them out",
        )
    dates = {
        p.commit.date
        for node in nodes
        for p in commits.read_partitions(root / "lake" / plan.dataset_folder(node)).values()
    }
    for node in _with_ancestors(nodes, graph):
        planned = plan.plan(root, node, graph, macros, selected=[n["unique_id"] for n in nodes])
        there = {(p.commit.params_digest, p.commit.date) for p in _committed(planned)}
        # A parent that lacks a date of the version is due for it only where bronze has what it is made of: SPY prints
        # after the last session of futures are of a date that has no front contract.
        asked = set() if node in nodes else dates
        due = [
            s.date
            for s in planned.steps
            if (s.params.digest if s.params else None, s.date) in there or s.date in asked
        ]
        if due:
            raise _refusal(
                version,
                f"is not what its code, params and inputs would make now: {planned.dataset} has {len(due)} dates to "
                f"be built anew, the first is {due[0]}; {again}",
            )


def _features(node: dict) -> list[str]:
    """Columns whose role is feature."""
    metas = {
        c["name"]: {**(c.get("meta") or {}), **(c.get("config", {}).get("meta") or {})}
        for c in node["columns"].values()
    }
    return [name for name, meta in metas.items() if meta.get("role") == "feature"]


def _committed(planned: plan.Plan) -> list[commits.Partition]:
    return [*commits.read_partitions(planned.dataset_dir).values()]


def _with_ancestors(nodes: list[dict], graph: Mapping) -> list[dict]:
    found: dict[str, dict] = {}
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if node["unique_id"] not in found:
            found[node["unique_id"]] = node
            todo += plan.dataset_parents(node, graph)
    return [*found.values()]


def _as_it_is(version: str, node: dict, graph: Mapping, macros: Mapping) -> released.Released:
    values = plan.version_params(node, None)
    files = versions.version_code(node, graph, macros)
    meaning = versions.intent(node, values)
    code_digest = versions.code.digest(files)
    return released.Released(
        version=version,
        dataset=plan.dataset_folder(node),
        intent=meaning,
        param_set=values.name,
        params=values.values,
        params_digest=values.digest,
        code_digest=code_digest,
        build_digest=versions.build_digest(meaning, values.digest, code_digest),
        files=files,
    )


def selector(node: dict) -> str:
    """How dbt's ``--select`` names a model, of a version or not."""
    return node["name"] if node.get("version") is None else f"{node['name']}.v{node['version']}"


def _refusal(version: str, told: str) -> NotReleasable:
    return NotReleasable(f"E_NOT_RELEASABLE: {version} {told}")
