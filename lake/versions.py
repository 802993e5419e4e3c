"""manifest.yaml and params.yaml of a feature version: the readable roll-up of its commit records (spec, 11.2)."""

import functools
import importlib.metadata
import itertools
import platform
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from lake import atomic, code, contracts, params, released, yaml_files
from lake.commits import Partition
from lake.paths import PROJECT_DIR

ENGINES = ("duckdb", "dbt-core", "dbt-duckdb", "numba", "numpy", "pyarrow")
# In C where the platform has it: every build writes the files of each version.
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
# What people may have changed since a manifest was written; a roll-up keeps it.
KEPT = {"created_at": None, "tags": [], "notes": ""}


def intent(node: dict, param_set: params.ParamSet) -> dict[str, object]:
    """What a version means, before any data: the part of the manifest that is under version control."""
    meta = node["config"]["meta"]
    groups: dict[str, list[str]] = {}
    for column in node["columns"].values():
        group = column.get("meta", {}).get("group") or column.get("config", {}).get("meta", {}).get("group")
        if group and group != "identity":
            groups.setdefault(group, []).append(column["name"])
    return {
        "version": meta["semantic_version"],
        "name": meta["version_name"],
        "description": " ".join(node["description"].split()),
        "parent_version": meta.get("parent_version"),
        "source": {"layer": "bronze", "schemas": meta.get("source_schemas", [])},
        "param_set": param_set.name,
        "features": {
            "groups": [
                {g: {"columns": names, "dependencies": meta.get("group_dependencies", {}).get(g, [])}}
                for g, names in groups.items()
            ]
        },
        "parameters": meta.get("parameters", {}),
    }


def version_code(node: dict, graph: dict, macros: dict) -> dict[str, str]:
    """``{path: sha256}`` of everything a version is made by: every ancestor's code, and seeds but for the calendar,
    which is an input by its rows of the date, so that a longer calendar changes no version."""
    files: dict[str, str] = {}
    todo, seen = [node["unique_id"]], set()
    while todo:
        uid = todo.pop()
        if uid in seen or uid in graph["sources"]:
            continue
        seen.add(uid)
        item = graph["nodes"][uid]
        if item["resource_type"] == "seed":
            if not item["config"].get("meta", {}).get("dated_by"):
                files[item["original_file_path"]] = item["checksum"]["checksum"]
            continue
        files.update(code.own_code(item, [], macros))
        todo += item["depends_on"]["nodes"]
    return dict(sorted(files.items()))


def build_digest(meaning: dict[str, object], params_digest: str, code_digest: str) -> str:
    return code.sha256_text(params.canonical_json(meaning) + params_digest + code_digest)


def read_manifest(path: Path) -> dict[str, Any]:
    """``manifest.yaml`` as it stands on disk.

    Raises BrokenContract (a ValueError) of one line that names the file and the key, when the file isn't YAML, has an
    unknown key, lacks one, or holds a value of another kind (``contracts/schemas/version_manifest.schema.json``).
    """
    manifest = _read_yaml(path)
    contracts.check(manifest, "version_manifest", _short(path))
    return manifest


def write_manifest(
    dataset_dir: Path,
    meaning: dict[str, object],
    param_set: params.ParamSet,
    files: dict[str, str],
    partitions: list[Partition],
) -> None:
    """Write both files atomically. What was recorded before (``created_at``, tags, notes) is kept; the status is what
    the version's records say.

    Once the version is released, so are the checkout and the engines that it was made by.

    Raises BrokenContract when what stands there has a key that would be lost, or a value that can't be kept.
    """
    old = _kept(dataset_dir / "manifest.yaml")
    state = released.state_of(dataset_dir)
    code_digest = code.digest(files)
    statuses = [(p, p.status()) for p in partitions]
    manifest = {
        "version": meaning["version"],
        "name": meaning["name"],
        "description": meaning["description"],
        "created_at": old["created_at"] or (partitions[0].commit.built_at if partitions else None),
        "created_by": "pipeline",
        "status": state,
        **{k: meaning[k] for k in ("parent_version", "source", "param_set", "features", "parameters")},
        "validation": _validation(meaning, partitions),
        "dates": [
            {
                "date": p.commit.date,
                "rows": p.commit.rows,
                "signals": _events(p.file, p.commit.content_digest),
                "input_digest": p.commit.input_digest,
                "content_digest": p.commit.content_digest,
                "built_at": p.commit.built_at,
                "status": status["status"],
                "error": status["error"],
            }
            for p, status in statuses
        ],
        "digests": {
            "params": param_set.digest,
            "code": code_digest,
            "build": build_digest(meaning, param_set.digest, code_digest),
        },
        "tags": old["tags"],
        "notes": old["notes"],
    }
    made_by = _made_by(dataset_dir / "params.yaml" if state == "released" else None)
    resolved = {
        "param_set": param_set.name,
        "resolved": param_set.values,
        "params_digest": param_set.digest,
        "code": {**made_by["code"], "code_digest": code_digest, "files": files},
        "engines": made_by["engines"],
        "inputs": {p.commit.date: p.commit.input_digest for p in partitions},
    }
    for name, content in (("params.yaml", resolved), ("manifest.yaml", manifest)):
        text = yaml.dump(content, Dumper=DUMPER, sort_keys=False, allow_unicode=True, width=120)
        target = dataset_dir / name
        if not target.is_file() or target.read_text() != text:
            atomic.write_text(target, text)


def _made_by(recorded: Path | None) -> dict[str, dict]:
    """Checkout and engines: those on record where there are any, else those that run now."""
    if recorded and recorded.is_file():
        old = _read_yaml(recorded)
        return {
            "code": {name: old["code"][name] for name in ("git_commit", "dirty")},
            "engines": old["engines"],
        }
    engines = {e.replace("-", "_"): importlib.metadata.version(e) for e in ENGINES}
    return {"code": _git(), "engines": {"python": platform.python_version(), **engines}}


def _kept(path: Path) -> dict[str, Any]:
    """What a roll-up keeps of the manifest before it. The rest is written anew, so that its values don't matter: a
    draft may have lost a column since."""
    if not path.is_file():
        return KEPT
    old = _read_yaml(path)
    for fault in contracts.faults(old, "version_manifest"):
        if (fault.key[0] in KEPT) if fault.key else (fault.rule != "required"):
            raise contracts.BrokenContract(f"{_short(path)}: {fault.told}")
    return {key: old.get(key, default) for key, default in KEPT.items()}


def _read_yaml(path: Path) -> Any:
    try:
        return yaml_files.read(path)
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise contracts.BrokenContract(f"{_short(path)}: was not YAML ({told}); correct it") from None


def _short(path: Path) -> str:
    """Version folder and file name: enough to find it under any root."""
    return "/".join(path.parts[-2:])


def _validation(meaning: dict, partitions: list[Partition]) -> dict[str, object]:
    columns = [c for group in meaning["features"]["groups"] for g in group.values() for c in g["columns"]]
    rows = sum(p.commit.rows for p in partitions)
    nulls = dict.fromkeys(columns, 0)
    for p in partitions:
        for column, count in _nulls(p.file, p.commit.content_digest).items():
            if column in nulls:
                nulls[column] += count
    schema = [(f.name, str(f.type)) for f in pq.read_schema(partitions[0].file)] if partitions else []
    return {
        "date_range": {
            "start": partitions[0].commit.date if partitions else None,
            "end": partitions[-1].commit.date if partitions else None,
        },
        "signal_count": sum(_events(p.file, p.commit.content_digest) for p in partitions),
        "row_count": rows,
        "feature_count": len(columns),
        "null_rates": {c: round(n / rows, 6) if rows else None for c, n in nulls.items()},
        "schema_hash": code.sha256_text(params.canonical_json(schema)),
    }


@functools.lru_cache(maxsize=100_000)
def _events(path: Path, content_digest: str) -> int:
    """Distinct touches of a partition; the digest is the cache's key, as a file of one name may be replaced."""
    # Not `pq.read_table`: it imports pandas, which takes longer than all else of a run that builds nothing.
    return pc.count_distinct(pq.ParquetFile(path).read(["event_id"])["event_id"]).as_py()


@functools.lru_cache(maxsize=100_000)
def _nulls(path: Path, content_digest: str) -> dict[str, int]:
    """NULLs of each column, from the footer: no row is read."""
    footer = pq.read_metadata(path)
    counts = dict.fromkeys(footer.schema.names, 0)
    for group, column in itertools.product(range(footer.num_row_groups), range(footer.num_columns)):
        chunk = footer.row_group(group).column(column)
        counts[chunk.path_in_schema] += chunk.statistics.null_count
    return counts


def _git() -> dict[str, object]:
    """Commit of the checkout and whether it has changes; both None outside a checkout."""

    def run(*args: str) -> str | None:
        done = subprocess.run(["git", *args], cwd=PROJECT_DIR, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    status = run("status", "--porcelain", "--untracked-files=no")
    return {"git_commit": run("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}
