"""Every relation and column is described, and every column of a training table is traced to bronze."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from lake import lineage, params
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import busy_morning

# What no landed row says: the stage's own name, the names of the level kinds, and what the param set holds.
NOT_OF_BRONZE = {"stage", "universe_version", "params_digest", "level_kind_name"}


def described(manifest: dict[str, Any]) -> dict[str, dict]:
    """Models, seeds and sources by unique id."""
    nodes = {u: n for u, n in manifest["nodes"].items() if n["resource_type"] in ("model", "seed")}
    return nodes | manifest["sources"]


def test_everything_has_a_description(manifest: dict[str, Any]):
    relations = described(manifest)
    assert {node["resource_type"] for node in relations.values()} == {"model", "seed", "source"}
    bare = [uid for uid, node in relations.items() if not node["description"].strip()]
    bare += [uid for uid, node in relations.items() if not node["columns"]]
    bare += [
        f"{uid}.{column['name']}"
        for uid, node in relations.items()
        for column in node["columns"].values()
        if not column["description"].strip()
    ]
    assert bare == []


def test_the_view_declares_what_it_shows(manifest: dict[str, Any]):
    """Datasets are held to their columns by the lake, a view by nobody else."""
    pipeline = Pipeline(manifest, params.load("default"))
    for model in pipeline.models:
        if not model.is_dataset:
            shown = pipeline.con.query(f"select * from {model.relation}")
            declared = lineage.declared_columns(model.node)
            assert shown.columns == [*declared], model.name
            typed = ", ".join(f'cast(null as {t}) as "{n}"' for n, t in declared.items())
            assert shown.types == pipeline.con.query(f"select {typed}").types, model.name


@pytest.fixture(scope="module")
def above(manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict:
    file = tmp_path_factory.mktemp("lineage") / "manifest.json"
    file.write_text(json.dumps(manifest), encoding="utf-8")
    return lineage.parents(file)


def training_columns(manifest: dict[str, Any]) -> list[lineage.Node]:
    tables = [(u, n) for u, n in manifest["nodes"].items() if n["name"] == "train_signals"]
    assert tables
    return [(uid, column) for uid, node in tables for column in node["columns"]]


def test_a_training_column_comes_from_bronze(manifest: dict[str, Any], above: dict):
    lost = {
        column
        for uid, column in training_columns(manifest)
        if not any(u in manifest["sources"] for u, _ in lineage.ancestors((uid, column), above))
    }
    assert lost == NOT_OF_BRONZE


@pytest.mark.parametrize(
    ("column", "source", "wanted"),
    [
        ("tape_imbalance", "futures_trades", {"price", "size", "ts_event_ns"}),
        ("barrier_delta_liq", "futures_mbp10", {"bid_px_00", "ask_sz_09", "flags"}),
        ("gamma_exposure", "options_trades", {"price", "size", "strike"}),
        ("outcome", "futures_trades", {"price"}),
        ("distance", "futures_trades", {"price"}),
    ],
)
def test_the_way_leads_through_python_models(
    manifest: dict[str, Any], above: dict, column: str, source: str, wanted: set[str]
):
    (uid,) = {u for u, _ in training_columns(manifest) if u.endswith("v1_0")}
    found = {c for u, c in lineage.ancestors((uid, column), above) if u.endswith(f".{source}")}
    assert wanted <= found


def test_lineage_names_columns_that_exist(manifest: dict[str, Any], above: dict):
    relations = described(manifest)
    unknown = {
        node
        for column, read in above.items()
        for node in (column, *read)
        if not node[0].endswith("bronze.landed")  # made by `lake.views`: what is landed, by source
        and (node[0] not in relations or node[1] not in relations[node[0]]["columns"])
    }
    assert unknown == set()


def test_an_adapter_reads_no_more_than_lineage_says(manifest: dict[str, Any]):
    """Each Python model gives the same rows when its parents hold nothing but the columns that were found."""
    pipeline = Pipeline(manifest, params.load("default"))
    *before, day = busy_morning(11)
    for earlier in before:
        pipeline.land(earlier)
        pipeline.build(earlier.date, only=("stg_futures__trades", "ohlcv", "dim_front_month"))
    pipeline.land(day)
    pipeline.build(day.date)
    pipeline.con.execute("create schema narrow")
    python = [model for model in pipeline.models if model.node["language"] == "python"]
    assert len(python) >= 8
    for model in python:
        narrow = narrowed(pipeline, model.node, {p["name"]: p for p in model.parents})
        then = pipeline.rows(model.name, day.date)
        pipeline._build(dataclasses.replace(model, node=narrow), day.date)
        assert pipeline.rows(model.name, day.date) == then, model.name
        assert then, model.name


def narrowed(pipeline: Pipeline, node: dict, parents: dict[str, dict]) -> dict:
    """A Python model that reads views of the columns found for it, with the columns that choose its dates."""
    columns = {name: [*lineage.declared_columns(parent)] for name, parent in parents.items()}
    code = node["compiled_code"]
    for name, found in lineage.read_by_adapter(node["raw_code"], columns).items():
        relation = f'"{parents[name]["schema"]}"."{parents[name]["alias"]}"'
        quoted = relation.replace('"', '\\"')  # inside of a Python text
        assert quoted in code
        code = code.replace(quoted, f"narrow.{name}")
        shown = pipeline.con.query(f"select * from {relation} limit 0").columns
        chosen = [c for c in shown if c in found or c in ("date", "session_date", "params")]
        listed = ", ".join(f'"{c}"' for c in chosen)
        pipeline.con.execute(f'create or replace view "narrow"."{name}" as select {listed} from {relation}')
    return {**node, "compiled_code": code}


PARENTS = {
    "trades": ["ts_event_ns", "tick", "size", "contract", "flags"],
    "points": ["asof_ns", "level_tick"],
}


@pytest.mark.parametrize(
    ("body", "trades"),
    [
        ('dbt.ref("trades").project("tick, ts_event_ns as at_ns").to_arrow_table()', ["ts_event_ns", "tick"]),
        ('dbt.ref("trades").to_arrow_table()', PARENTS["trades"]),
        ('dbt.ref("trades").filter("size > 1").to_arrow_table()', PARENTS["trades"]),
        ('t = dbt.ref("trades").filter("size > 1")\n    t = t.project("tick")', ["tick", "size"]),
        ('t = dbt.ref("trades")\n    kernel(t.project(f"{KEY}, flags"))', ["ts_event_ns", "flags"]),
        ('t = dbt.ref("trades")\n    kernel(t.project(", ".join(NAMES)))', ["tick", "size"]),
        ('t = dbt.ref("trades")\n    kernel(t.project(IMPORTED), t.project("tick"))', PARENTS["trades"]),
        ('kernel(dbt.ref("points").project("level_tick"))', PARENTS["trades"]),
    ],
)
def test_what_an_adapter_reads(body: str, trades: list[str]):
    source = f'KEY = "ts_event_ns"\nNAMES = ("tick", "size")\n\ndef model(dbt, session):\n    {body}\n'
    assert lineage.read_by_adapter(source, PARENTS)["trades"] == trades


def test_a_page_without_a_manifest_is_refused(tmp_path: Path):
    with pytest.raises(lineage.LineageError, match="make docs"):
        lineage.write(tmp_path)
