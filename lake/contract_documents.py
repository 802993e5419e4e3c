"""What each dataset promises its readers, out of the one place where that is said: the YAML of its source or model.

A promise is made for what others may read: the sources of bronze, and every silver and gold relation that isn't private
to its domain. Source: spec/execution.md 7.1.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lake import contracts, yaml_files
from lake.paths import PROJECT_DIR

LAYERS = ("bronze", "silver", "gold")
# A column's unit: its `meta.unit`, else a clause of its description ("Level at t0, ticks."), else the end of its name.
_UNIT_SAID = re.compile(
    "(?:^|, |: )((?:Q|q)uote asset per base asset|(?:Q|q)uote asset|(?:B|b)ase asset|(?:P|p)ercent points|(?:T|t)icks|"
    r"(?:P|p)oints|(?:C|c)ontracts|ns UTC|ns|ms|UTC|(?:S|s)econds|(?:B|b)ars|USD|SPY \$|basis points|(?:F|f)raction)"
    "(?=[,.;:]|$)"
)
UNITS = {
    "_ns": "ns", "_ms": "ms", "_sec": "seconds", "_pct": "percent points", "_bps": "basis points", "_frac": "fraction",
    "_ticks": "ticks", "_tick": "ticks", "_points": "points", "_contracts": "contracts", "_usd": "USD",
    "_quote": "quote asset",
}  # fmt: skip
_SECONDS = {"minute": 60, "hour": 3600, "day": 86_400}
# Tests of one column that its entry in `columns` says already.
COLUMN_TESTS = ("not_null", "accepted_values")


class ContractGap(ValueError):
    """The YAML of a dataset lacks what its contract needs."""


@dataclass(frozen=True)
class Dataset:
    """One relation with a contract: ``name`` is ``<layer>/<relation>``; ``promise`` its document without a version."""

    name: str
    promise: dict[str, Any]
    folder: str | None  # below the root; None for a view


def datasets(project_dir: Path = PROJECT_DIR) -> dict[str, Dataset]:
    """Every dataset with a contract, by name, in order. Raises ContractGap naming the file and what it lacks."""
    found = [*_sources(project_dir / "models" / "bronze"), *_models(project_dir)]
    names = [dataset.name for dataset in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ContractGap(f"{', '.join(sorted(twice))} was declared twice, expected once; rename one of them")
    return {dataset.name: dataset for dataset in sorted(found, key=lambda d: d.name)}


# -- bronze ----------------------------------------------------------------------------------------------------------


def _sources(folder: Path) -> Iterator[Dataset]:
    for path in sorted(folder.glob("*.yml")):
        for source in _read(path).get("sources", []):
            for table in source["tables"]:
                inherited = (source.get("config") or {}) | (table.get("config") or {})
                meta = (source.get("config") or {}).get("meta") or {}
                meta = meta | ((table.get("config") or {}).get("meta") or {}) | (table.get("meta") or {})
                limits = (inherited.get("freshness") or {}).get("error_after")
                by_hour = meta.get("schema_name") is not None
                yield _dataset(
                    f"bronze/{table.get('identifier', table['name'])}",
                    table,
                    meta,
                    where=path.name,
                    path=None if meta.get("over") else f"lake/bronze/{meta['dataset']}",
                    grain=meta.get("grain", []),
                    key=meta.get("grain", []),
                    partition=[*meta["keys"], "date", *(["hour_utc"] if by_hour else [])],
                    freshness_hours=limits and limits["count"] * _SECONDS[limits["period"]] / 3600,
                )


# -- silver and gold -------------------------------------------------------------------------------------------------


def _models(project_dir: Path) -> Iterator[Dataset]:
    configured = _read(project_dir / "dbt_project.yml").get("models", {}).get("tickhouse", {})
    models = project_dir / "models"
    for path in sorted(models.rglob("*.yml")):
        parts = path.relative_to(models).parts
        layer = parts[0]
        if layer not in ("silver", "gold"):
            continue
        inherited = _of_folder(configured, parts[:-1])
        for model in _read(path).get("models", []):
            if model["name"].startswith(("stg_", "int_")) or _access(model) == "private":
                continue
            schema = _schema(path.parent / f"{model['name']}.sql", model, inherited.get("schema", layer))
            if schema != layer:  # `analytics` and `monitoring`: views for people
                continue
            for version in contracts.of_versions(model):
                meta = inherited["meta"] | version["config"]["meta"]
                alias = model["name"] if version["v"] is None else f"{model['name']}_v{version['v']}"
                is_view = _is_view(path.parent / f"{alias}.sql", version["config"])
                yield _dataset(
                    f"{layer}/{alias}",
                    model | {"columns": version["columns"]},
                    meta,
                    where=path.name,
                    path=None if is_view else f"lake/{meta.get('folder') or f'{layer}/datasets/{alias}'}",
                    grain=meta.get("grain", []),
                    key=meta.get("key", meta.get("grain", [])),
                    partition=_partition(meta, is_view=is_view),
                    freshness_hours=None,
                )


def _of_folder(configured: dict, folders: tuple[str, ...]) -> dict[str, Any]:
    """What dbt_project.yml gives every model of a folder: its schema, and meta merged from the top down."""
    meta: dict[str, Any] = {}
    schema = None
    level: dict | None = configured
    for folder in ("", *folders):
        level = (level or {}).get(folder) if folder else level
        if not isinstance(level, dict):
            break
        meta |= level.get("+meta") or {}
        schema = level.get("+schema", schema)
    return {"meta": meta} | ({"schema": schema} if schema else {})


def _schema(sql: Path, model: dict, inherited: str) -> str:
    """Schema of a model by its YAML, by the config on top of its SQL, or by its folder."""
    text = sql.read_text(encoding="utf-8") if sql.is_file() else ""
    said = re.search(r"schema\s*=\s*['\"](\w+)", text)
    return (model.get("config") or {}).get("schema") or (said[1] if said else inherited)


def _is_view(sql: Path, config: dict) -> bool:
    """True for a view by its YAML, or by the config on top of its SQL."""
    text = sql.read_text(encoding="utf-8") if sql.is_file() else ""
    return (
        config.get("materialized") == "view" or re.search(r"materialized\s*=\s*['\"]view", text) is not None
    )


def _access(model: dict) -> str:
    return model.get("access") or (model.get("config") or {}).get("access") or "protected"


def _partition(meta: dict, *, is_view: bool) -> list[str]:
    """Columns that stand in the path; of a view, those of what it shows where its meta says so."""
    if meta.get("partition") == "date":
        return [*meta.get("path_keys", []), "date"]
    if is_view:
        return []
    return [*(["params"] if meta.get("per_params") else []), "session_date"]


# -- the document ----------------------------------------------------------------------------------------------------


def _dataset(
    name: str,
    declared: dict,
    meta: dict,
    *,
    where: str,
    path: str | None,
    grain: list[str],
    key: list[str],
    partition: list[str],
    freshness_hours: float | None,
) -> Dataset:
    sla = dict(meta.get("sla") or {})
    if missing := [what for what, value in (("owner", meta.get("owner")), ("sla", sla)) if not value]:
        raise ContractGap(f"{where}: {name} has no {' and no '.join(missing)}; add it under meta")
    if freshness_hours is not None:
        sla.setdefault("freshness_hours", freshness_hours)
    columns = [_column(name, where, column, {*key, *grain}, meta) for column in declared.get("columns", [])]
    named = {column["name"] for column in columns}
    columns += [_of_the_path(column) for column in partition if column not in named]
    for column in columns:
        if column["name"] in partition:
            column["nullable"] = False
    document = {
        "name": name.replace("/", "."),
        "owner": meta["owner"],
        "description": _line(declared.get("description", "")),
        "path": path,
        "grain": list(grain),
        "key": list(key),
        "partition": partition,
        "columns": columns,
        "tests": [*_tests(declared)],
        "sla": {key: float(value) for key, value in sorted(sla.items())},
    }
    return Dataset(name, document, path)


def _column(dataset: str, where: str, column: dict, keys: set[str], of_dataset: dict) -> dict[str, Any]:
    if missing := [k for k in ("data_type", "description") if not column.get(k)]:
        raise ContractGap(f"{where}: {dataset}.{column['name']} has no {' and no '.join(missing)}; add it")
    # of a source's columns the loader holds which are null: its YAML lists those that may be
    nullable = of_dataset.get("nullable")
    meta = (column.get("meta") or {}) | ((column.get("config") or {}).get("meta") or {})
    tests = {test_name: arguments for test_name, arguments, _ in _named(column.get("data_tests", []))}
    constrained = any(c.get("type") == "not_null" for c in column.get("constraints", []))
    is_set = column["name"] in keys or constrained or "not_null" in tests
    # of a feature set's columns the YAML says when one is null, and a test holds it (`lake.contracts`)
    is_set |= meta.get("role", "lineage") != "lineage" and "null_when" not in meta
    is_set |= nullable is not None and column["name"] not in nullable
    accepted = meta.get("domain")
    if seed := meta.get("domain_seed"):
        accepted = _seed(seed, column["name"])
    if "accepted_values" in tests:
        accepted = tests["accepted_values"]["values"]
    return {
        "name": column["name"],
        "type": type_name(column["data_type"]),
        # Only what something holds is promised: a column that nothing keeps from being null may be null.
        "nullable": not is_set,
        "description": _line(column["description"]),
        "unit": meta.get("unit") or _unit(column["name"], column["description"]),
        "accepted_values": None if accepted is None else list(accepted),
    }


def _of_the_path(name: str) -> dict[str, Any]:
    kinds = {"params": ("varchar", "First 8 hex digits of the param set's digest, from the path.")}
    kinds |= {
        "session_date": ("date", "Session, from the path."),
        "date": ("date", "UTC date, from the path."),
    }
    kinds |= {"hour_utc": ("integer", "UTC hour, from the path.")}
    if name not in kinds:
        raise ContractGap(f"path key {name} is no declared column; declare it with its type in the YAML")
    kind, description = kinds[name]
    return {
        "name": name,
        "type": kind,
        "nullable": False,
        "description": description,
        "unit": None,
        "accepted_values": None,
    }


def _tests(declared: dict) -> Iterator[dict[str, Any]]:
    """Data tests as claims: of which column (None: of the relation), which, with what, and what a breach does."""
    of_columns = [(c["name"], c.get("data_tests", [])) for c in declared.get("columns", [])]
    for column, tests in [(None, declared.get("data_tests", [])), *of_columns]:
        for name, arguments, severity in _named(tests):
            yield {"column": column, "test": name, "arguments": arguments, "severity": severity}


def _named(tests: list) -> Iterator[tuple[str, dict, str]]:
    for test in tests:
        if isinstance(test, str):
            yield test, {}, "error"
        else:
            ((name, body),) = ((k, v) for k, v in test.items() if k not in ("config", "name"))
            body = body or {}
            config = (body.get("config") or {}) | (test.get("config") or {})
            yield name, body.get("arguments", {}), str(config.get("severity", "error")).lower()


def type_name(data_type: str) -> str:
    """One spelling for one SQL type: lower case, no spaces but between words."""
    text = re.sub(r"\s+", " ", data_type.strip().lower())
    text = re.sub(r"\s*([(),\[\]])\s*", r"\1", text)
    return text.replace("timestamptz", "timestamp with time zone")


def _unit(name: str, description: str) -> str | None:
    if match := _UNIT_SAID.search(description):
        return match[1][0].lower() + match[1][1:] if match[1][1:2].islower() else match[1]
    return next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), None)


@functools.cache
def _seed(seed: str, column: str) -> tuple[str, ...]:
    with open(PROJECT_DIR / "seeds" / "reference" / f"{seed}.csv", newline="", encoding="utf-8") as file:
        return tuple(row[column] for row in csv.DictReader(file))


def _line(text: str) -> str:
    return " ".join(text.split())


def _read(path: Path) -> dict:
    return yaml_files.read(path) or {}
