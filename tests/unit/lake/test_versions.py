"""Feature versions: what they mean, what that makes of their digest, and what a roll-up says and keeps."""

import copy
import importlib.metadata
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from lake import code, commits, contracts, params, versions
from lake.digest import table_digest

SET = params.load("default")
OTHER_SET = params.load("atr")
FILES = {"models/a.sql": "a" * 64, "macros/b.sql#b": "b" * 64}
# The ten columns of the design documents come first, then each group's further ones (spec market 9).
GROUPS = {
    "level": 4,
    "barrier_physics": 13,
    "tape_physics": 12,
    "fuel_physics": 6,
    "dealer_velocity": 5,
    "pressure_indicators": 4,
}


@pytest.fixture(scope="module")
def node() -> dict[str, Any]:
    """v1.0 as dbt has it in its graph, from the model YAML."""
    path = contracts.MODELS_DIR / "silver" / "market" / "sets" / "touch_features.yml"
    (model,) = yaml.safe_load(path.read_text())["models"]
    (version,) = (v for v in contracts.of_versions(model) if v["v"] == "1_0")
    return {**model, **version, "columns": {column["name"]: column for column in version["columns"]}}


@pytest.fixture(scope="module")
def meaning(node: dict[str, Any]) -> dict[str, Any]:
    return versions.intent(node, SET)


def small(*columns: tuple[str, str | None], **meta: object) -> dict[str, Any]:
    """A version of a few columns, given with their groups."""
    return {
        "description": "One  row\nper touch.",
        "config": {"meta": {"semantic_version": "1.2.0", "version_name": "small", **meta}},
        "columns": {n: {"name": n, "config": {"meta": {"group": g} if g else {}}} for n, g in columns},
    }


# -- intent ----------------------------------------------------------------------------------------------------------


def test_groups_come_from_the_yaml_in_the_order_of_their_first_column(meaning: dict[str, Any]):
    groups = [(name, group) for entry in meaning["features"]["groups"] for name, group in entry.items()]
    assert {name: len(group["columns"]) for name, group in groups} == GROUPS
    assert [name for name, _ in groups] == list(GROUPS)
    listed = [column for _, group in groups for column in group["columns"]]
    assert len(listed) == len(set(listed)) == 44
    assert not {"observation_id", "event_id", "asof_ns", "params_digest", "outcome"} & set(listed)
    assert listed[:4] == ["level_kind_name", "direction", "direction_sign", "distance"]


def test_columns_of_a_group_keep_their_order_and_need_not_stand_together():
    node = small(("id", "identity"), ("b2", "b"), ("a1", "a"), ("b1", "b"), ("ungrouped", None))
    assert versions.intent(node, SET)["features"] == {
        "groups": [
            {"b": {"columns": ["b2", "b1"], "dependencies": []}},
            {"a": {"columns": ["a1"], "dependencies": []}},
        ]
    }


def test_intent_holds_what_the_yaml_declares_and_nothing_of_the_data():
    node = small(
        ("x", "a"),
        parent_version="v1.0_mechanics_only",
        source_schemas=["futures/trades"],
        group_dependencies={"a": ["book_tape"], "z": ["nothing"]},
        parameters={"W_b": 120},
    )
    assert versions.intent(node, OTHER_SET) == {
        "version": "1.2.0",
        "name": "small",
        "description": "One row per touch.",
        "parent_version": "v1.0_mechanics_only",
        "source": {"layer": "bronze", "schemas": ["futures/trades"]},
        "param_set": "atr",
        "features": {"groups": [{"a": {"columns": ["x"], "dependencies": ["book_tape"]}}]},
        "parameters": {"W_b": 120},
    }


def test_a_group_may_stand_in_either_place_of_dbts_yaml():
    node = small(("x", "a"))
    node["columns"]["x"] = {"name": "x", "meta": {"group": "a"}}
    assert versions.intent(node, SET) == versions.intent(small(("x", "a")), SET)


# -- build digest ----------------------------------------------------------------------------------------------------


def test_the_build_digest_is_of_intent_params_and_code(meaning: dict[str, Any]):
    digest = versions.build_digest(meaning, SET.digest, code.digest(FILES))
    assert digest == code.sha256_text(params.canonical_json(meaning) + SET.digest + code.digest(FILES))
    assert digest == versions.build_digest(
        dict(reversed(meaning.items())), SET.digest, code.digest(dict(reversed(FILES.items())))
    )


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        (lambda meaning, values, files: None, False),
        (lambda meaning, values, files: meaning.update(version="1.0.1"), True),
        (lambda meaning, values, files: meaning.update(description="Other."), True),
        (lambda meaning, values, files: meaning.update(parameters={"W_b": 120}), True),
        (lambda meaning, values, files: meaning["features"]["groups"].reverse(), True),
        (
            lambda meaning, values, files: meaning["features"]["groups"][0]["level"]["columns"].reverse(),
            True,
        ),
        (lambda meaning, values, files: values.update(digest=OTHER_SET.digest), True),
        (lambda meaning, values, files: files.update({"models/a.sql": "c" * 64}), True),
        (lambda meaning, values, files: files.update({"models/c.sql": "a" * 64}), True),
        (lambda meaning, values, files: files.pop("models/a.sql"), True),
    ],
    ids=[
        *("nothing", "version", "description", "parameters", "order of groups", "order of columns"),
        *("params", "a file's content", "a file more", "a file less"),
    ],
)
def test_the_build_digest_changes_with_each_of_them(meaning: dict[str, Any], change: Any, is_another: bool):
    before = versions.build_digest(meaning, SET.digest, code.digest(FILES))
    changed, values, files = copy.deepcopy(meaning), {"digest": SET.digest}, dict(FILES)
    change(changed, values, files)
    after = versions.build_digest(changed, values["digest"], code.digest(files))
    assert (after != before) is is_another


# -- code ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def graph() -> dict[str, Any]:
    """A set over one model with a macro, which reads a source, a seed and the calendar."""

    def model(name: str, sql: str, *parents: str, macros: tuple[str, ...] = ()) -> dict[str, Any]:
        return {
            "unique_id": f"model.{name}",
            "resource_type": "model",
            "name": name,
            "package_name": "p",
            "language": "sql",
            "raw_code": sql,
            "original_file_path": f"models/{name}.sql",
            "patch_path": f"p://models/{name}.yml",
            "config": {"meta": {"key": ["x"], "grain": ["x"]}},
            "columns": {"x": {"name": "x", "data_type": "integer"}},
            "depends_on": {"nodes": list(parents), "macros": list(macros)},
        }

    def seed(name: str, **meta: object) -> dict[str, Any]:
        return {
            "resource_type": "seed",
            "original_file_path": f"seeds/{name}.csv",
            "checksum": {"checksum": f"sum of {name}"},
            "config": {"meta": meta},
        }

    nodes = [
        model("set", "select * from base", "model.base"),
        model(
            *("base", "select 1", "source.trades", "seed.kinds", "seed.calendar"),
            macros=("macro.ticks", "macro.ref"),
        ),
        model("stranger", "select 2"),
    ]
    return {
        "nodes": {n["unique_id"]: n for n in nodes}
        | {"seed.kinds": seed("kinds"), "seed.calendar": seed("calendar", dated_by="session_date")},
        "sources": {"source.trades": {"name": "trades"}},
    }


@pytest.fixture
def macros() -> dict[str, Any]:
    def macro(name: str, package: str, sql: str) -> SimpleNamespace:
        path, needs = f"macros/{name}.sql", SimpleNamespace(macros=[])
        return SimpleNamespace(
            name=name, package_name=package, macro_sql=sql, original_file_path=path, depends_on=needs
        )

    return {"macro.ticks": macro("ticks", "p", "x * 4"), "macro.ref": macro("ref", "dbt", "builtin")}


def test_code_of_a_version_is_that_of_all_its_ancestors(graph: dict[str, Any], macros: dict[str, Any]):
    found = versions.version_code(graph["nodes"]["model.set"], graph, macros)
    assert list(found) == [
        "macros/ticks.sql#ticks",
        "models/base.sql",
        "models/set.sql",
        "p://models/base.yml#base",
        "p://models/set.yml#set",
        "seeds/kinds.csv",
    ]
    assert found["models/base.sql"] == code.sha256_text("select 1")
    assert found["macros/ticks.sql#ticks"] == code.sha256_text("x * 4")
    assert found["seeds/kinds.csv"] == "sum of kinds"


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        (lambda nodes, macros: nodes["model.set"].update(raw_code="select x from base"), True),
        (lambda nodes, macros: nodes["model.base"].update(raw_code="select 3"), True),
        (lambda nodes, macros: nodes["model.base"]["columns"]["x"].update(data_type="bigint"), True),
        (lambda nodes, macros: nodes["model.base"]["config"]["meta"].update(key=["y"]), True),
        (lambda nodes, macros: nodes["seed.kinds"]["checksum"].update(checksum="other"), True),
        (lambda nodes, macros: setattr(macros["macro.ticks"], "macro_sql", "x * 5"), True),
        (lambda nodes, macros: nodes["model.stranger"].update(raw_code="select 4"), False),
        (lambda nodes, macros: nodes["seed.calendar"]["checksum"].update(checksum="longer"), False),
        (lambda nodes, macros: nodes["model.base"]["config"]["meta"].update(lesson="a story"), False),
        (lambda nodes, macros: setattr(macros["macro.ref"], "macro_sql", "newer dbt"), False),
    ],
    ids=[
        *("own SQL", "a parent's SQL", "a parent's type", "a parent's key", "a seed", "a macro"),
        *("another model", "a longer calendar", "prose", "dbt's own macro"),
    ],
)
def test_code_changes_with_what_the_version_is_made_by_and_nothing_else(
    graph: dict[str, Any], macros: dict[str, Any], change: Any, is_another: bool
):
    before = versions.version_code(graph["nodes"]["model.set"], graph, macros)
    change(graph["nodes"], macros)
    after = versions.version_code(graph["nodes"]["model.set"], graph, macros)
    assert (code.digest(after) != code.digest(before)) is is_another


# -- roll-up ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two dates of a version: three rows of two touches and one row of one, tested and not yet tested."""
    dataset = tmp_path / "v1.0_mechanics_only"
    first = put(dataset, "2025-12-15", ["e1", "e1", "e2"], [1.0, None, 2.0])
    commits.mark(first, True, None, run_id())
    put(dataset, "2025-12-16", ["e3"], [None])
    return dataset


def put(dataset: Path, date: str, events: list[str], velocity: list[float | None]) -> commits.Partition:
    table = pa.table(
        {
            "event_id": events,
            "distance": pa.array([0.25] * len(events)),
            "tape_velocity": pa.array(velocity, pa.float64()),
        }
    )
    staged = dataset.parent / "x.parquet"
    pq.write_table(table, staged)
    commit = commits.Commit(
        dataset="silver/features/v1.0_mechanics_only",
        date=date,
        params_digest=SET.digest,
        rows=table.num_rows,
        bytes=staged.stat().st_size,
        content_digest=table_digest(table),
        build_key="1" * 64,
        code_digest="2" * 64,
        inputs={f"silver/datasets/physics/{date}": "3" * 64},
        input_digest=code.sha256_text(date),
        build_digest="4" * 64,
        built_at=f"{date}T20:00:00Z",
        run_id=run_id(),
    )
    return commits.publish(staged, dataset / f"date={date}", commit)


def run_id() -> str:
    return "00000000-0000-0000-0000-000000000000"


def roll_up(
    folder: Path,
    meaning: dict[str, Any],
    values: params.ParamSet = SET,
    files: dict[str, str] = FILES,
) -> dict[str, Any]:
    """Write both files as a build does, and read the manifest back."""
    versions.write_manifest(folder, meaning, values, files, [*commits.read_partitions(folder).values()])
    return versions.read_manifest(folder / "manifest.yaml")


def edit(folder: Path, **changes: object) -> None:
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes, sort_keys=False))


def test_a_manifest_says_what_is_committed(folder: Path, meaning: dict[str, Any]):
    manifest = roll_up(folder, meaning)
    assert {k: manifest[k] for k in meaning} == meaning
    assert (manifest["status"], manifest["tags"], manifest["notes"]) == ("draft", [], "")
    assert manifest["created_at"] == "2025-12-15T20:00:00Z"
    assert [(d["date"], d["rows"], d["signals"], d["status"], d["built_at"]) for d in manifest["dates"]] == [
        ("2025-12-15", 3, 2, "ok", "2025-12-15T20:00:00Z"),
        ("2025-12-16", 1, 1, "failed", "2025-12-16T20:00:00Z"),
    ]
    assert "not tested" in manifest["dates"][1]["error"]
    assert manifest["digests"] == {
        "params": SET.digest,
        "code": code.digest(FILES),
        "build": versions.build_digest(meaning, SET.digest, code.digest(FILES)),
    }


def test_validation_counts_over_all_dates(folder: Path, meaning: dict[str, Any]):
    validation = roll_up(folder, meaning)["validation"]
    assert validation["date_range"] == {"start": "2025-12-15", "end": "2025-12-16"}
    assert (validation["row_count"], validation["signal_count"], validation["feature_count"]) == (4, 3, 44)
    listed = [c for group in meaning["features"]["groups"] for g in group.values() for c in g["columns"]]
    assert list(validation["null_rates"]) == listed
    assert validation["null_rates"]["tape_velocity"] == 0.5
    assert validation["null_rates"]["distance"] == 0.0
    assert "event_id" not in validation["null_rates"]


def test_null_rates_are_of_the_rows_and_round_to_six_places(folder: Path, meaning: dict[str, Any]):
    put(folder, "2025-12-16", ["e3", "e4", "e5"], [None, 1.0, 1.0])
    assert roll_up(folder, meaning)["validation"]["null_rates"]["tape_velocity"] == 0.333333


def test_a_date_that_was_built_again_is_counted_again(folder: Path, meaning: dict[str, Any]):
    assert roll_up(folder, meaning)["validation"]["signal_count"] == 3
    put(folder, "2025-12-16", ["e3", "e4"], [1.0, 1.0])
    again = roll_up(folder, meaning)
    assert (again["validation"]["signal_count"], again["validation"]["row_count"]) == (4, 5)
    assert again["validation"]["null_rates"]["tape_velocity"] == 0.2
    assert again["dates"][1]["signals"] == 2


def test_the_schema_hash_is_of_names_and_types_in_order(folder: Path, meaning: dict[str, Any]):
    pairs = [("event_id", "string"), ("distance", "double"), ("tape_velocity", "double")]
    expected = code.sha256_text(params.canonical_json(pairs))
    assert roll_up(folder, meaning)["validation"]["schema_hash"] == expected


def test_a_version_without_a_date_has_a_manifest_too(tmp_path: Path, meaning: dict[str, Any]):
    dataset = tmp_path / "v1.0_mechanics_only"
    manifest = roll_up(dataset, meaning)
    assert (manifest["created_at"], manifest["dates"]) == (None, [])
    validation = manifest["validation"]
    assert validation["date_range"] == {"start": None, "end": None}
    assert (validation["row_count"], validation["signal_count"], validation["feature_count"]) == (0, 0, 44)
    assert set(validation["null_rates"].values()) == {None}
    put(dataset, "2025-12-15", ["e1"], [1.0])
    assert roll_up(dataset, meaning)["created_at"] == "2025-12-15T20:00:00Z"


def test_params_yaml_holds_what_was_resolved(folder: Path, meaning: dict[str, Any]):
    roll_up(folder, meaning, OTHER_SET)
    resolved = yaml.safe_load((folder / "params.yaml").read_text())
    assert contracts.faults(resolved, "version_params") == []
    assert (resolved["param_set"], resolved["params_digest"]) == ("atr", OTHER_SET.digest)
    assert resolved["resolved"] == OTHER_SET.values
    assert resolved["code"]["files"] == FILES
    assert resolved["code"]["code_digest"] == code.digest(FILES)
    assert resolved["inputs"] == {
        d: code.sha256_text(d) for d in ("2025-12-15", "2025-12-16")
    }  # the digests of the commit records
    engines = resolved["engines"]
    assert engines["dbt_core"] == importlib.metadata.version("dbt-core")
    assert list(engines) == ["python", "duckdb", "dbt_core", "dbt_duckdb", "numba", "numpy", "pyarrow"]


def test_outside_a_checkout_the_commit_is_unknown(
    folder: Path, meaning: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(versions, "PROJECT_DIR", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    roll_up(folder, meaning)
    resolved = yaml.safe_load((folder / "params.yaml").read_text())
    assert (resolved["code"]["git_commit"], resolved["code"]["dirty"]) == (None, None)
    assert contracts.faults(resolved, "version_params") == []


# -- what a roll-up keeps --------------------------------------------------------------------------------------------


def test_what_people_added_survives(folder: Path, meaning: dict[str, Any]):
    roll_up(folder, meaning)
    added = {
        "created_at": "2025-12-01T00:00:00Z",
        "tags": ["baseline", "für später"],
        "notes": "Kept since the first look.\nTwo lines.",
    }
    edit(folder, **added, created_by="somebody", description="Something else.", status="released")
    put(folder, "2025-12-17", ["e9"], [1.0])
    manifest = roll_up(folder, meaning)
    assert {key: manifest[key] for key in added} == added
    # everything else says again what is so
    assert (manifest["created_by"], manifest["description"]) == ("pipeline", meaning["description"])
    assert manifest["status"] == "draft"  # a release has a record of its own
    assert [d["date"] for d in manifest["dates"]] == ["2025-12-15", "2025-12-16", "2025-12-17"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"owner": "ann"}, "unknown key owner, expected only version, name"),
        ({"tags": "baseline"}, "tags was 'baseline', expected type"),
        ({"tags": [1]}, "tags.0 was 1, expected type"),
        ({"notes": None}, "notes was None, expected type"),
    ],
)
def test_what_a_roll_up_would_lose_stops_it(
    folder: Path, meaning: dict[str, Any], changes: dict[str, object], told: str
):
    roll_up(folder, meaning)
    edit(folder, **changes)
    before = {name: (folder / name).read_text() for name in ("manifest.yaml", "params.yaml")}
    with pytest.raises(ValueError, match="manifest") as refused:
        roll_up(folder, meaning, OTHER_SET)
    assert str(refused.value).startswith(f"{folder.name}/manifest.yaml: {told}")
    assert "\n" not in str(refused.value)
    assert {name: (folder / name).read_text() for name in before} == before


def test_a_draft_may_lose_columns_and_params(folder: Path, meaning: dict[str, Any]):
    """What a roll-up writes anew need not be readable any more; what it keeps is."""
    expected = roll_up(folder, meaning)
    edit(
        folder,
        features={"groups": [{"gone": {"columns": ["also_gone"], "dependencies": []}}]},
        parameters={"W_gone": 1},
        validation={"older": "format"},
    )
    path = folder / "manifest.yaml"
    with pytest.raises(contracts.BrokenContract):
        versions.read_manifest(path)
    assert roll_up(folder, meaning) == expected
    without = {k: v for k, v in yaml.safe_load(path.read_text()).items() if k not in ("tags", "digests")}
    path.write_text(yaml.safe_dump(without))
    assert roll_up(folder, meaning) == expected


def test_what_says_the_same_is_not_written_again(folder: Path, meaning: dict[str, Any]):
    def stats() -> dict[str, tuple[int, int]]:
        stats = {name: (folder / name).stat() for name in ("manifest.yaml", "params.yaml")}
        return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}

    roll_up(folder, meaning)
    first = stats()
    roll_up(folder, meaning)
    assert stats() == first
    commits.mark([*commits.read_partitions(folder).values()][1], True, None, run_id())
    assert [d["status"] for d in roll_up(folder, meaning)["dates"]] == ["ok", "ok"]
    verdict = stats()
    assert verdict["params.yaml"] == first["params.yaml"]
    assert verdict["manifest.yaml"] != first["manifest.yaml"]


@pytest.mark.parametrize("what", ["data", "verdict", "notes", "a date more"])
def test_the_build_digest_names_a_version_not_its_data(folder: Path, meaning: dict[str, Any], what: str):
    before = roll_up(folder, meaning)["digests"]
    match what:
        case "data":
            put(folder, "2025-12-16", ["e7"], [3.0])
        case "verdict":
            first = next(iter(commits.read_partitions(folder).values()))
            commits.mark(first, False, "a test failed", run_id())
        case "notes":
            edit(folder, notes="a word", tags=["b"], created_at="2020-01-01T00:00:00Z")
        case _:
            put(folder, "2025-12-18", ["e8"], [3.0])
    assert roll_up(folder, meaning)["digests"] == before


def test_another_param_set_is_another_build(folder: Path, meaning: dict[str, Any]):
    same_values = replace(SET, name="other_name")
    before = roll_up(folder, meaning)["digests"]
    after = roll_up(folder, {**meaning, "param_set": "atr"}, OTHER_SET)["digests"]
    assert {k for k in before if before[k] != after[k]} == {"params", "build"}
    # a set of equal values under another name: the name is part of the intent, the values' digest stays
    renamed = roll_up(folder, {**meaning, "param_set": "other_name"}, same_values)["digests"]
    assert {k for k in before if before[k] != renamed[k]} == {"build"}


def test_other_code_is_another_build(folder: Path, meaning: dict[str, Any]):
    before = roll_up(folder, meaning)["digests"]
    after = roll_up(folder, meaning, files=FILES | {"physics/tape.py": "c" * 64})["digests"]
    assert {k for k in before if before[k] != after[k]} == {"code", "build"}
