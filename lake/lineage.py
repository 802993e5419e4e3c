"""Column lineage of the whole project, from bronze to the training tables, as one page.

dbt-colibri reads it off the compiled SQL. Two things it can't know are added here: the columns of relations that
nothing was built of yet, which the YAML declares, and what Python models read, which their adapters say. A kernel is
opaque, so each column that it gives is said to hang on each column that its adapter reads.

``python -m lake.lineage`` reads ``target/docs/manifest.json`` (``make docs`` writes it first) and writes beside it
``lineage/index.html``, the page, and ``lineage/colibri-manifest.json``, the same as data. No network is used.
"""

import ast
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lake.paths import PROJECT_DIR

DOCS_DIR = PROJECT_DIR / "target" / "docs"

Node = tuple[str, str]
"""A column: (unique id of its model, source or seed, name)."""


class LineageError(ValueError):
    """Lineage can't be read: no manifest, or a model whose SQL wasn't understood."""


def declared_columns(node: Mapping[str, Any]) -> dict[str, str]:
    """Type by name of the columns that a model, source or seed declares, in order."""
    types = node["config"].get("column_types") or {}
    return {name: c.get("data_type") or types.get(name) or "" for name, c in node["columns"].items()}


def catalog(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What dbt's catalog would say if everything were built: each relation with its declared columns."""

    def entry(uid: str, node: Mapping[str, Any]) -> dict[str, Any]:
        columns = declared_columns(node).items()
        name = node.get("alias") or node["identifier"]
        return {
            "unique_id": uid,
            "metadata": {
                "type": "VIEW",
                "database": node["database"],
                "schema": node["schema"],
                "name": name,
            },
            "columns": {n: {"name": n, "type": t, "index": i} for i, (n, t) in enumerate(columns, 1)},
            "stats": {},
        }

    models = {u: n for u, n in manifest["nodes"].items() if n["resource_type"] in ("model", "seed")}
    return {
        "metadata": manifest["metadata"],
        "nodes": {uid: entry(uid, node) for uid, node in models.items()},
        "sources": {uid: entry(uid, node) for uid, node in manifest["sources"].items()},
    }


def read_by_adapter(source: str, parents: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The columns of each parent that a Python model reads, by its source; ``parents`` have theirs by name.

    They are the names in the texts of ``.project()`` and ``.filter()`` on what ``dbt.ref()`` gave, also by way of a
    variable or of a constant of the module. A relation that is never projected, or by what only the run knows, counts
    as read whole.
    """
    tree = ast.parse(source)
    texts = {
        node.targets[0].id: " ".join(_texts(node.value, {}))
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    variables: dict[str, str] = {}

    def parent_of(expression: ast.expr) -> str | None:
        match expression:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="dbt"), attr="ref"), args=[ast.Constant(value=name), *_]
            ):
                return str(name)
            case ast.Call(func=inner) | ast.Attribute(value=inner) | ast.Subscript(value=inner):
                return parent_of(inner)
            case ast.Name(id=name):
                return variables.get(name)
        return None

    asked: dict[str, set[str]] = {name: set() for name in parents}
    projected, unknown = set(), set()
    for node in _in_order(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if parent := parent_of(value):
                variables[name] = parent
            case ast.Call(func=ast.Attribute(value=relation, attr="project" | "filter" as method)):
                if parent := parent_of(relation):
                    asked[parent].update(re.findall(r"\w+", " ".join(_texts(node, texts))))
                    if method == "project":
                        names = {n.id for arg in node.args for n in ast.walk(arg) if isinstance(n, ast.Name)}
                        (unknown if names - texts.keys() else projected).add(parent)
    return {
        name: [c for c in columns if c in asked[name] or name not in projected - unknown]
        for name, columns in parents.items()
    }


def _in_order(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes as they stand in the text; an assignment before what its value holds."""
    yield from sorted(
        (n for n in ast.walk(tree) if hasattr(n, "lineno")), key=lambda n: (n.lineno, n.col_offset)
    )


def _texts(expression: ast.AST, constants: Mapping[str, str]) -> Iterator[str]:
    for node in ast.walk(expression):
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.Name(id=name) if name in constants:
                yield constants[name]


def of_python_models(manifest: Mapping[str, Any]) -> dict[Node, list[Node]]:
    """Parents of each column of each Python model: every column that its adapter reads."""
    relations = manifest["nodes"] | manifest["sources"]
    found: dict[Node, list[Node]] = {}
    for uid, node in manifest["nodes"].items():
        if node["resource_type"] == "model" and node["language"] == "python":
            by_name = {relations[u]["name"]: u for u in node["depends_on"]["nodes"]}
            columns = {name: [*declared_columns(relations[u])] for name, u in by_name.items()}
            read = read_by_adapter(node["raw_code"], columns)
            parents = [(by_name[name], column) for name, names in read.items() for column in names]
            found |= {(uid, column): parents for column in declared_columns(node)}
    return found


def extractor(manifest_file: Path) -> Any:
    """dbt-colibri's extractor over the project, with the declared columns and the Python models.

    Writes ``declared-catalog.json`` beside the manifest, which it reads.
    """
    # Development only, as the linters are; its import costs a second.
    from dbt_colibri.lineage_extractor.extractor import DbtColumnLineageExtractor  # noqa: PLC0415

    class Extractor(DbtColumnLineageExtractor):
        def extract_project_lineage(self) -> dict[str, Any]:
            found = super().extract_project_lineage()
            parents, children = found["lineage"]["parents"], found["lineage"]["children"]
            for (uid, column), read in of_python_models(self.manifest).items():
                parents.setdefault(uid, {})[column] = [
                    {"column": c, "dbt_node": u, "lineage_type": "transformation"} for u, c in read
                ]
                for u, c in read:
                    child = {"column": column, "dbt_node": uid}
                    children.setdefault(u, {}).setdefault(c, []).append(child)
            return found

    manifest = json.loads(manifest_file.read_text(encoding="utf-8"))
    catalog_file = manifest_file.with_name("declared-catalog.json")
    catalog_file.write_text(json.dumps(catalog(manifest)), encoding="utf-8")
    return Extractor(str(manifest_file), str(catalog_file))


def parents(manifest_file: Path) -> dict[Node, list[Node]]:
    """Columns that each column hangs on, one step up. What a model filters or joins by is left out.

    Raises LineageError when the SQL of a model wasn't understood.
    """
    found = extractor(manifest_file).extract_project_lineage()
    if found["errors"]:
        raise LineageError(f"{len(found['errors'])} columns have no lineage; the first: {found['errors'][0]}")
    return {
        (uid, column): [(p["dbt_node"], p["column"].strip('"')) for p in read]
        for uid, columns in found["lineage"]["parents"].items()
        for column, read in columns.items()
        if not column.startswith("__colibri_")
    }


def ancestors(column: Node, above: Mapping[Node, Sequence[Node]]) -> set[Node]:
    """Every column above ``column``, itself left out; ``above`` as `parents` gives it."""
    seen: set[Node] = set()
    todo = [column]
    while todo:
        for parent in above.get(todo.pop(), ()):
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)
    return seen


def write(docs_dir: Path = DOCS_DIR) -> Path:
    """Write the page for the manifest in ``docs_dir``; return its path."""
    from dbt_colibri.report.generator import DbtColibriReportGenerator  # noqa: PLC0415

    manifest_file = docs_dir / "manifest.json"
    if not manifest_file.is_file():
        raise LineageError(f"{manifest_file} is not there; write it with: make docs")

    class Report(DbtColibriReportGenerator):
        def _get_node_display_name(self, node_id: str) -> str:
            """The relation's name: of a versioned model dbt-colibri shows the version alone."""
            return self.manifest["nodes"].get(node_id, {}).get("alias") or super()._get_node_display_name(
                node_id
            )

    # Its page would else report to its maker when it is opened.
    report = Report(extractor(manifest_file), disable_telemetry=True)
    report.generate_report(output_dir=str(docs_dir / "lineage"))
    return docs_dir / "lineage" / "index.html"


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)  # it says of each seed that it has no SQL
    try:
        write()
    except LineageError as error:
        sys.exit(str(error))
