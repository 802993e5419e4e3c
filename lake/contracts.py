"""Writes ``contracts/`` from the model YAML and the param sets, and holds documents to it.

``features.json`` is the contract of each feature version, labels included; ``schemas/*.schema.json`` are the JSON
Schemas of every manifest (`lake.schemas`). Run as ``python -m lake.contracts`` (``make contracts``); a test holds that
what is checked in is current.
"""

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lake import atomic, params, yaml_files
from lake.paths import PROJECT_DIR
from lake.schemas import Schema, Vocabulary
from lake.schemas import schemas as _schemas

CONTRACTS_DIR = PROJECT_DIR / "contracts"
FEATURES_JSON = CONTRACTS_DIR / "features.json"
SCHEMAS_DIR = CONTRACTS_DIR / "schemas"
MODELS_DIR = PROJECT_DIR / "models"
TRAINING_FOLDER = "gold/training/candidates/"
NOT_OF_A_VERSION = {"identity", "labels"}


class ContractError(ValueError):
    """A column of a version's YAML lacks what its contract needs."""


class BrokenContract(ValueError):
    """A document isn't what its schema says; one line that names the file, the key and what was expected."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a document: where (keys and list positions from its top), which rule of JSON Schema it
    breaks, and one line for people."""

    key: tuple[str | int, ...]
    rule: str
    told: str


def features(models_dir: Path = MODELS_DIR) -> dict[str, Any]:
    """``{version: {version, columns: [{name, dtype, unit, nullable, domain, role, group}, …]}}`` in stored order."""
    return _features(_models(models_dir))


def _features(models: list[dict]) -> dict[str, Any]:
    contracts: dict[str, object] = {}
    for model in models:
        for version in of_versions(model):
            meta = version["config"]["meta"]
            folder = meta.get("folder", "")
            if folder.startswith(TRAINING_FOLDER):
                contracts[folder.removeprefix(TRAINING_FOLDER)] = {
                    "version": meta["semantic_version"],
                    "columns": [_column(model["name"], column) for column in version["columns"]],
                }
    return dict(sorted(contracts.items()))


def of_versions(model: dict) -> list[dict]:
    """The versions of a model's YAML, each with the columns and the ``config.meta`` that dbt gives it: the model's,
    narrowed by ``include`` and ``exclude`` and overlaid by the version's own. One without versions is its own."""
    found = []
    for version in model.get("versions", [{}]):
        columns = model.get("columns", [])
        for chosen in version.get("columns", [{"include": "all"}]):
            named = chosen.get("include", [])
            columns = [
                c
                for c in columns
                if (named in ("all", "*") or c["name"] in named)
                and c["name"] not in chosen.get("exclude", [])
            ]
        config = model.get("config", {})
        meta = {**config.get("meta", {}), **version.get("config", {}).get("meta", {})}
        found.append({"v": version.get("v"), "columns": columns, "config": {**config, "meta": meta}})
    return found


def schemas(models_dir: Path = MODELS_DIR, params_dir: Path = params.PARAMS_DIR) -> dict[str, Schema]:
    """Every JSON Schema by name, with the columns, groups, stages and params that the project declares."""
    models = _models(models_dir)
    columns = [c for version in _features(models).values() for c in version["columns"]]
    of_versions = [c for c in columns if c["group"] not in NOT_OF_A_VERSION]
    front_month = next(m for m in models if m["name"] == "dim_front_month")
    words = Vocabulary(
        columns=_distinct(c["name"] for c in of_versions),
        groups=_distinct(c["group"] for c in of_versions),
        stages=_distinct(s for c in columns if c["name"] == "stage" for s in c["domain"]),
        params=params.load("default", params_dir).values,
        front_month=tuple((c["name"], c["data_type"]) for c in front_month["columns"]),
    )
    return _schemas(words)


def files() -> dict[Path, str]:
    """Text of every generated file of ``contracts/``, by path."""
    texts = {FEATURES_JSON: _text(features())}
    texts |= {SCHEMAS_DIR / f"{name}.schema.json": _text(schema) for name, schema in schemas().items()}
    return texts


def faults(document: object, schema: str) -> list[Fault]:
    """What is wrong with ``document`` by the checked-in schema of that name, in order of place; empty when nothing."""
    errors = sorted(_validator(schema).iter_errors(document), key=lambda e: [str(p) for p in e.absolute_path])
    return [Fault(tuple(error.absolute_path), error.validator, _told(error)) for error in errors]


def check(document: object, schema: str, where: str) -> None:
    """Raise BrokenContract with the first fault of ``document``; ``where`` names its file in the message."""
    if found := faults(document, schema):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise BrokenContract(f"{where}: {found[0].told}{more}")


@functools.cache
def _validator(schema: str) -> Any:
    # Imported here: half a second that most commands don't need.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    content = json.loads((SCHEMAS_DIR / f"{schema}.schema.json").read_text())
    return Draft202012Validator(content, format_checker=Draft202012Validator.FORMAT_CHECKER)


def _told(error: Any) -> str:
    """One line about one error of the validator."""
    where = ".".join(map(str, error.absolute_path))
    key = f"{where}." if where else ""
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = error.schema["properties"]
        unknown = ", ".join(f"{key}{name}" for name in error.instance if name not in known)
        return f"unknown key {unknown}, expected only {', '.join(known)}; take it out"
    if error.validator == "required":
        missing = ", ".join(f"{key}{name}" for name in error.validator_value if name not in error.instance)
        return f"key {missing} was missing, expected it to be there; put it back"
    if error.validator == "enum":
        expected = "one of " + ", ".join(map(str, error.validator_value))
    else:
        expected = f"{error.validator} {json.dumps(error.validator_value, default=str)}"
    was = repr(error.instance)
    return f"{where or 'document'} was {was[:80]}{'…' * (len(was) > 80)}, expected {expected}; correct it"


def _models(models_dir: Path) -> list[dict]:
    read = [yaml_files.read(path) or {} for path in sorted(models_dir.rglob("*.yml"))]
    return [model for found in read for model in found.get("models", [])]


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _column(model: str, column: dict) -> dict[str, object]:
    meta = column.get("config", {}).get("meta", {})
    if missing := [key for key in ("role", "group") if key not in meta]:
        raise ContractError(
            f"{model}.{column['name']} has no {' and no '.join(missing)}; add it under config.meta"
        )
    return {
        "name": column["name"],
        "dtype": column["data_type"],
        "unit": meta.get("unit"),
        "nullable": "null_when" in meta,
        "domain": meta.get("domain"),
        "role": meta["role"],
        "group": meta["group"],
    }


def _text(content: object) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    current = files()
    for path, text in current.items():
        atomic.write_text(path, text)
    for path in set(SCHEMAS_DIR.glob("*.schema.json")) - set(current):
        path.unlink()


if __name__ == "__main__":
    main()
