"""The layers of the architecture, read from dbt's manifest: who reads whom."""

from collections.abc import Iterable
from typing import Any


def layer_and_domain(node: dict[str, Any]) -> tuple[str, str]:
    """``models/silver/market/…`` → ("silver", "market")."""
    return tuple(node["original_file_path"].split("/")[1:3])


def violations(models: dict[str, dict[str, Any]]) -> Iterable[str]:
    """Sentences, one for each dependency that the architecture's section 2 forbids."""
    for node in models.values():
        name, (layer, domain) = node["name"], layer_and_domain(node)
        for parent_id in node["depends_on"]["nodes"]:
            kind = parent_id.split(".")[0]
            if kind == "source" and not name.startswith("stg_"):
                yield f"{name} calls source() and is no staging model"
            if kind != "model":
                continue
            parent = models[parent_id]
            parent_name, (parent_layer, parent_domain) = parent["name"], layer_and_domain(parent)
            reads = f"{name} reads {parent_name}"
            if layer == "gold" and parent_name.startswith(("stg_", "int_")):
                yield f"{reads}: gold never reads stg_ or int_"
            if layer == "silver" and parent_layer == "gold":
                yield f"{reads}: silver never reads gold"
            if name.startswith("stg_") and not parent_name.startswith("stg_"):
                yield f"{reads}: staging reads sources, seeds and staging"
            if parent_domain != domain and layer != "monitoring":  # which looks at every domain
                bridge = domain == "execution" and parent_domain == "market" and parent["access"] == "public"
                if not bridge:
                    yield f"{reads}: domains meet only where execution reads public market entities"


def test_models_read_what_their_layer_may(models):
    assert models
    assert list(violations(models)) == []


def test_every_model_stands_in_its_layer_and_group(models):
    misplaced = {
        node["name"]: node["original_file_path"]
        for node in models.values()
        if layer_and_domain(node)[0] not in {"silver", "gold", "monitoring"}
        or (layer_and_domain(node)[0] != "monitoring" and node["group"] != layer_and_domain(node)[1])
    }
    assert misplaced == {}


def test_steps_are_private(models):
    open_steps = [
        node["name"]
        for node in models.values()
        if node["name"].startswith(("stg_", "int_")) and node["access"] != "private"
    ]
    assert open_steps == []


def test_what_holds_rows_is_a_dataset(models):
    """A Python model is a table unless its own file says otherwise (lesson: python-model-materialization)."""
    kinds = {
        node["name"]: node["config"]["materialized"]
        for node in models.values()
        # views over records, over what `ml` has published, and over all of gold's inputs stand elsewhere
        if layer_and_domain(node)[0] != "monitoring"
        and node["schema"] != "analytics"
        and not node["name"].startswith("training_sets_")
    }
    views = {name for name, kind in kinds.items() if kind != "dataset"}
    # the latter shows rows of stop_executions
    assert views == {"stg_futures__mbp10", "stop_executions_current"}
    assert kinds["stg_futures__mbp10"] == "view"  # by the specification: too wide to be written twice


def test_each_forbidden_dependency_is_seen():
    def model(name: str, folder: str, *parents: str, access: str = "protected") -> dict[str, Any]:
        path = f"models/{folder}/{name}.sql"
        return {"name": name, "original_file_path": path, "access": access, "depends_on": {"nodes": parents}}

    staging, entities = "silver/market/staging", "silver/market/entities"
    models = {
        "model.t.stg_a__b": model("stg_a__b", staging, "source.t.bronze.b", "seed.t.dim_session"),
        "model.t.bars": model("bars", entities, "model.t.stg_a__b", access="public"),
        "model.t.train_x": model("train_x", "gold/market", "model.t.bars"),
        "model.t.orders": model("orders", "silver/execution/entities", "model.t.bars"),
    }
    assert list(violations(models)) == []

    models["model.t.hidden"] = model("hidden", entities)
    wrong = {
        "peeks": model("peeks", entities, "source.t.bronze.b"),
        "train_y": model("train_y", "gold/market", "model.t.stg_a__b"),
        "looks_up": model("looks_up", entities, "model.t.train_x"),
        "stg_c__d": model("stg_c__d", staging, "model.t.bars"),
        "crosses": model("crosses", entities, "model.t.orders"),
        "pries": model("pries", "silver/execution/entities", "model.t.hidden"),
    }
    found = list(violations({**models, **{f"model.t.{name}": node for name, node in wrong.items()}}))
    assert [text.split()[0] for text in found] == list(wrong)
