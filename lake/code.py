"""Fingerprints of the code that a dataset is made by: model, views between, macros, kernels, and what the YAML says.

dbt's ``state:modified`` does not see an edited kernel, and macros are not in the Jinja ``graph``; both are
followed here.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from lake.params import canonical_json
from lake.paths import PROJECT_DIR
from lake.read_once import ReadOnce

# The machinery that every model passes through: it is tested on its own and says nothing of one dataset's content.
MACHINERY = {"ref", "source", "on_build_dates", "on_due_dates", "dataset_columns"}


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def own_code(node: dict, views: Iterable[dict], macros: dict) -> dict[str, str]:
    """``{path or macro: sha256}`` of what one dataset's own rows depend on: its model, the views under it, their
    macros, the kernels it imports, and its declared key, columns and date maps."""
    files: dict[str, str] = {}
    for model in (node, *views):
        files[model["original_file_path"]] = sha256_text(model["raw_code"])
        files.update(_macro_code(model, macros))
        if model["language"] == "python":
            files.update(kernel_code(model["raw_code"]))
    files[f"{node['patch_path'] or node['name']}#{node['name']}"] = sha256_text(
        canonical_json(_declared(node))
    )
    return dict(sorted(files.items()))


def digest(files: dict[str, str]) -> str:
    return sha256_text("\n".join(f"{path} {sha}" for path, sha in sorted(files.items())))


def kernel_code(source: str, project: Path = PROJECT_DIR) -> dict[str, str]:
    """Modules of ``physics`` that Python source imports, directly or through one another, with their hashes."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    todo = [*_imports(source)]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        place = name.replace(".", "/")
        for key, package in ((f"{place}/__init__.py", name), (f"{place}.py", name.rpartition(".")[0])):
            if module := _module(f"{project}/{key}"):
                text, found[key] = module
                todo += _imports(text, package)
                break
    return found


def _module(path: str) -> tuple[str, str] | None:
    """A module's source and its hash, None where there is none: every model of a run asks for much the same kernels."""
    try:
        return _source(path)
    except OSError:
        return None


def _read(path: str) -> tuple[str, str]:
    text = Path(path).read_text()
    return text, sha256_text(text)


_source = ReadOnce(_read)


@functools.lru_cache(maxsize=2_000)
def _imports(source: str, package: str = "") -> frozenset[str]:
    """Names within ``physics`` that a module of ``package`` imports, and the packages that importing them runs."""
    names: set[str] = set()
    for item in ast.walk(ast.parse(source)):
        if isinstance(item, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) + 1 - item.level] if item.level else []
            base = ".".join([*parts, *([item.module] if item.module else [])])
            names.add(base)
            names.update(f"{base}.{a.name}" for a in item.names)
        elif isinstance(item, ast.Import):
            names.update(a.name for a in item.names)
    parents = {n[:i] for n in names for i, c in enumerate(n) if c == "."}
    return frozenset(n for n in names | parents if n.split(".")[0] == "physics")


def _macro_code(model: dict, macros: dict) -> dict[str, str]:
    found: dict[str, str] = {}
    todo = list(model["depends_on"]["macros"])
    while todo:
        uid = todo.pop()
        macro = macros.get(uid)
        if macro is None or macro.package_name != model["package_name"] or macro.name in MACHINERY:
            continue
        key = f"{macro.original_file_path}#{macro.name}"
        if key not in found:
            found[key] = sha256_text(macro.macro_sql)
            todo += macro.depends_on.macros
    return found


def is_lineage(column: dict) -> bool:
    """True for a column that says who built a row (run_id, created_at, …): content must not depend on it."""
    meta = {**(column.get("meta") or {}), **((column.get("config") or {}).get("meta") or {})}
    return meta.get("role") == "lineage"


def _declared(node: dict) -> dict[str, object]:
    meta = dict(node["config"].get("meta", {}))
    for prose in ("grain", "semantics", "invariants", "lesson", "owner", "sla", "versioned_with"):
        meta.pop(prose, None)
    return {
        "meta": json.loads(json.dumps(meta, default=str)),
        "columns": [[c["name"], c.get("data_type"), is_lineage(c)] for c in node["columns"].values()],
    }
