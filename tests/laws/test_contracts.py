"""What the project writes is what ``contracts/`` says: every manifest meets its schema, every file has its place."""

import copy
import json
import re
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest
import yaml
from jsonschema import Draft202012Validator

from ingest.dbn import ingest
from ingest.ndjson import ingest_ndjson
from ingest.simulator import faults, flat_files, futures_files, market
from ingest.simulator.execution.simulation import simulate_execution
from ingest.window_seal import seal_through
from lake import (
    active,
    atomic,
    commits,
    contract_data,
    contract_documents,
    contracts,
    datasets,
    feature_tables,
    job_runs,
    jobs,
    params,
    retention,
    rollup,
    runs,
    training_sets,
    versions,
    windows,
)
from lake.contracts import BrokenContract
from ml import experiments, training
from ml.training_sets import train as train_set
from ml.training_sets.publish import publish as publish_set
from tests.fixtures import training_candidates
from tests.fixtures.dbt import keyed_project, repository_project
from tests.fixtures.released import every_record
from tests.fixtures.tokens import land_events
from tests.laws import test_backfill, test_dataset_path_keys
from tests.laws.repository import PROJECT_DIR
from tests.unit.ingest import databento_kit
from tests.unit.ingest_binance import kit as binance_kit
from tests.unit.ingest_windows import kit
from tests.unit.ml import ml_worlds, promoted_worlds

SCHEMAS = sorted(contracts.schemas())
VERSION = "v1.0_mechanics_only"
MANIFEST = f"lake/silver/features/{VERSION}/manifest.yaml"

DAY, HEX8, VERSION_FOLDER = r"\d{4}-\d{2}-\d{2}", "[0-9a-f]{8}", r"v\d+\.\d+_[a-z_]+"
# Where files that are no manifests may stand (spec market 2, architecture 3); what starts with _ or . is never data.
LAYOUT = [
    r"raw/dbn/(trades|mbp10)/[^/]+\.dbn(\.zst)?",
    rf"raw/polygon/(options|stocks)/{DAY}\.csv\.gz",
    r"raw/_quarantine/[^/]+",
    r"raw/\._simulation\.lock",
    rf"lake/bronze/futures/(trades|mbp10)/symbol=[^/=]+/date={DAY}/hour=\d\d/part-{HEX8}-\d{{3}}\.parquet",
    rf"lake/archive/bronze/futures/trades/month=\d{{4}}-\d\d/symbol=[^/=]+/date={DAY}/hour=\d\d/part-{HEX8}\.parquet",
    rf"lake/archive/silver/features/{VERSION_FOLDER}\.tar",
    r"_meta/retention\.log",
    r"raw/events/(events|orders)/[a-z]+\.ndjson",
    rf"lake/bronze/(events|orders/client_id=\d+)/date={DAY}/part-\d{{4}}\.parquet",
    rf"lake/bronze/(events/date={DAY}/_metadata|orders/_metadata/date={DAY})/README\.md",
    rf"lake/bronze/_rejects/dataset=events/date={DAY}/part-\d\d-[0-9a-f]{{16}}\.parquet",
    rf"lake/silver/datasets/[a-z0-9_]+/(params={HEX8}/)?date={DAY}/data\.parquet",
    rf"lake/silver/features/{VERSION_FOLDER}/date={DAY}/data\.parquet",
    rf"lake/gold/training/candidates/{VERSION_FOLDER}/date={DAY}/data\.parquet",
    rf"lake/gold/training_sets/[a-z_]+/v\d+\.\d+\.\d+/(train|test)/date={DAY}/data\.parquet",
    r"lake/gold/models/[a-z_]+/v\d+\.\d+\.\d+/dataset_hash",
    r"lake/silver/features/\._lock-experiments",
    r"lake/_stage/[a-z0-9_.]+\.lock",
    r"lake/_stage/empty/[a-z0-9_]+/([a-z_]+=0/)*date=1970-01-01/(hour=00/)?empty\.parquet",
    r"ml/experiments/exp\d{3,}_[a-z0-9_]+/model\.joblib",
    r"(ml/production|lake/gold/training/versions/signals_production/v=\d+)/retrieval_index\.joblib",
    r"(ml/production/boosted_trees|lake/gold/training/versions/signals_production/v=\d+/models)/[a-z0-9_]+\.joblib",
    r"lake/gold/training/(versions/signals_production/v=\d+/data|signals_production)\.parquet",
    r"ml/experiments/\._lock-exp\d{3,}",
    r"lake\.duckdb",
]


# -- what real runs wrote --------------------------------------------------------------------------------------------


def land_windows(root: Path, folder: Path) -> None:
    """Events and orders of some hours, one line that can't land, a late row, and a day of merged parts."""
    start = kit.START
    kit.write(folder / "events.ndjson", [*kit.events(300, hours=30), "no JSON"])
    kit.write(folder / "orders.ndjson", [kit.order(n, start + timedelta(minutes=n)) for n in range(60)])
    kit.write(folder / "late.ndjson", kit.events(3, seed=9, hours=1))
    for dataset, file in (("events", "events"), ("orders", "orders"), ("events", "late")):
        assert ingest_ndjson(root, dataset, str(folder / f"{file}.ndjson")).exit_code in (0, 2)
    seal_through(root, "events", start + timedelta(hours=26))
    date_ = f"{start:%Y-%m-%d}"
    markers = windows.read_date(root, "orders", date_)
    parts = tuple(part for marker in markers for part in marker.parts)
    replaces = {marker.file_name: marker.content_hash for marker in markers}
    record = windows.DayRecord("orders", "prod", date_, 60, 1, replaces, parts)
    atomic.write_json(windows.metadata_dir(root, "orders", date_) / windows.DAY_RECORD, record.record())


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One simulated session from raw files to gold, one file that was refused, and a second call of ingest."""
    folder = tmp_path_factory.mktemp("contracts")
    root, broken = folder / "lake_root", folder / "broken.dbn"
    market.simulate(root, [date(2025, 10, 14)], scale=0.0005, seed=1, profile="planted")
    broken.write_bytes(b"DBN\x03 and no more")
    report = ingest(root, [root / "raw" / "dbn", broken])
    assert [f.status for f in report.files] == ["landed"] * 4 + ["quarantined"]
    repository_project().built(root)
    policy = retention.Policy("bronze/*", 0, -1, "date", delete_allowed=True)
    rules = retention.Rules((policy,), frozenset(), date(2026, 1, 1), "bronze/futures/trades")
    retention.archive(root, rules, runs.new_run_id("retention"))
    deleted = retention.delete(root, rules, runs.new_run_id("retention"), yes=True)
    assert "deleted" in {row.state for row in deleted}  # hours that failed a check of quality stay
    land_windows(root, folder)
    rollup.write_rollups(root)
    job = jobs.Job(
        "night", "0 0 * * *", (), 600, 0, 0, "night", ("lake/bronze",), ("lake/silver",), ("python -c 0",)
    )
    assert job_runs.run(root, job).status == "ok"
    return root


@pytest.fixture(scope="module")
def trained(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What training wrote below a root of its own, by relative path: an experiment each completed, failed, running."""
    root = tmp_path_factory.mktemp("trained")
    ml_worlds.commit_gold(root, ml_worlds.gold(sessions=16, touches=25, planted=True))
    (root / MANIFEST).parent.mkdir(parents=True)
    shutil.copy(lake / MANIFEST, root / MANIFEST)
    before = files_below(root)
    config = training.Config(max_rounds=12, stopping_rounds=5, bootstrap_draws=50)
    training.train(root, VERSION, "exp001_mechanics_only", config=config)
    with pytest.raises(RuntimeError, match="stopped"):
        training.train(root, VERSION, "exp002_stopped", config=config, on_progress=stop)
    experiments.record_running(root, "exp003_mechanics_only", VERSION, config.stages, "")
    return {name: path for name, path in files_below(root).items() if name not in before}


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What ordering from a vendor wrote beside what every landing writes, by relative path."""
    root = tmp_path_factory.mktemp("ordered")
    with databento_kit.server() as server:
        assert databento_kit.call(root, server.url).ok
    return {name: path for name, path in files_below(root).items() if "/request-" in name}


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What syncs from Binance and a refused file of it wrote beside what every landing writes."""
    root = tmp_path_factory.mktemp("synced")
    binance_kit.sync_and_refuse(root)
    return {
        name: path
        for name, path in files_below(root).items()
        if "/load-" in name or name.endswith(".cursor.json")
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return every_record(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The truth of a simulated bot."""
    root = tmp_path_factory.mktemp("planted")
    simulate_execution(root / "raw", seed=7, clients=1, days=1, ops_per_day=40, symbols=["BTCUSDC"])
    return {name: path for name, path in files_below(root).items() if name.endswith("/truth.json")}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both training sets of the execution domain, published and trained on."""
    root = tmp_path_factory.mktemp("published")
    for name in training_sets.SETS:
        training_candidates.commit(root, name, training_candidates.rows(name, days=20, per_day=12))
        publish_set(root, name, data_through=training_candidates.THROUGH)
        train_set.train(root, name, config=train_set.Config(max_rounds=5, bootstrap_draws=20))
    return {
        name: path
        for name, path in files_below(root).items()
        if re.search(r"/training_sets/[^c]|/models/", name)
    }


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What a table of online features says of itself, before its first row."""
    root = tmp_path_factory.mktemp("told")
    (root / "lake" / "gold" / "features" / "stop_execution_features").mkdir(parents=True)
    feature_tables.write_metadata(root)
    return files_below(root)


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What an audit and a promotion wrote: the registry, the table that serves, its manifests and its pointer."""
    root = tmp_path_factory.mktemp("promoted")
    promoted_worlds.landed(root, promoted_worlds.world(sessions=22, touches=25))
    promoted_worlds.trained(root, promoted_worlds.ONE)
    promoted_worlds.promote(root, accept_no_skill=True)
    wanted = r"registry\.json|/training/(?!candidates)|/audit-|ml/production"
    return {name: path for name, path in files_below(root).items() if re.search(wanted, name)}


@pytest.fixture(scope="module")
def backfilled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What making a sibling of a dataset, and swapping it in, wrote beside what every build writes."""
    folder = tmp_path_factory.mktemp("backfilled")
    root, edited = folder / "root", test_backfill.doubled(folder / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(active, "DATASETS", {test_backfill.DATASET: test_backfill.FOLDED})
        land_events(root, test_dataset_path_keys.first_days(), "first.ndjson")
        assert keyed_project().run(root, "build").ok
        test_backfill.run(root, edited)
        test_backfill.swap(root, edited, 2)
    wanted = r"/(active|backfill|diff)\.json$"
    return {name: path for name, path in files_below(root).items() if re.search(wanted, name)}


def stop(*_: object) -> None:
    raise RuntimeError("stopped")


@pytest.fixture(scope="module")
def written(
    lake: Path,
    trained: dict[str, Path],
    ordered: dict[str, Path],
    synced: dict[str, Path],
    kept: dict[str, Path],
    planted: dict[str, Path],
    published: dict[str, Path],
    told: dict[str, Path],
    promoted: dict[str, Path],
    backfilled: dict[str, Path],
) -> dict[str, Path]:
    """Every file that a real run wrote, and the contracts of features and datasets, by path below its root."""
    checked_in = [contracts.FEATURES_JSON, *contracts.CONTRACTS_DIR.glob("*/*/v*.json")]
    return (
        files_below(lake)
        | trained
        | ordered
        | synced
        | kept
        | planted
        | published
        | told
        | promoted
        | backfilled
        | {path.relative_to(PROJECT_DIR).as_posix(): path for path in checked_in}
    )


@pytest.fixture(scope="module")
def documents(written: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Every manifest by schema and path, read as it stands."""
    found: dict[str, dict[str, Any]] = {name: {} for name in SCHEMAS}
    for name, path in written.items():
        for schema in schemas_of(name):
            found[schema][name] = read(path)
    return found


def files_below(root: Path) -> dict[str, Path]:
    return {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.suffix == ".yaml" else json.loads(path.read_text())


def checked_in(schema: str) -> dict[str, Any]:
    return json.loads((contracts.SCHEMAS_DIR / f"{schema}.schema.json").read_text())


PATHS = {schema: checked_in(schema)["x-path"] for schema in SCHEMAS}


def schemas_of(name: str) -> list[str]:
    """Schemas that say they describe the file of that path."""
    return [schema for schema, pattern in PATHS.items() if re.search(pattern, name)]


def test_every_manifest_meets_the_one_schema_of_its_path(written: dict[str, Path]):
    manifests = [name for name in written if name.endswith((".json", ".yaml"))]
    for name in manifests:
        (schema,) = schemas_of(name)
        assert [f.told for f in contracts.faults(read(written[name]), schema)] == [], name
    assert {schema for name in manifests for schema in schemas_of(name)} == set(SCHEMAS)


def test_every_file_has_its_place(written: dict[str, Path]):
    others = [name for name in written if not schemas_of(name)]
    assert [name for name in others if not any(re.fullmatch(p, name) for p in LAYOUT)] == []
    # a pattern that nothing needs would let in what nobody has looked at
    assert [p for p in LAYOUT if not any(re.fullmatch(p, name) for name in others)] == []


@pytest.mark.parametrize(
    "name",
    [
        "raw/notes.txt",
        "raw/dbn/mbp10/._tmp-x1",
        "raw/_metadata/receipt-1.json",
        "lake/silver/datasets/levels/date=2025-10-14/other.parquet",
        "lake/silver/datasets/levels/date=14/data.parquet",
        "lake/bronze/futures/mbp10/symbol=ES/date=2025-10-14/part-0123abcd-000.parquet",
        "lake/_stage/levels@2025-10-14.parquet",
        "ml/experiments/exp1_x/model.joblib",
        "ml/experiments/._new-exp001_mechanics_only/model.joblib",
    ],
)
def test_a_file_out_of_place_is_seen(name: str):
    assert not schemas_of(name)
    assert not any(re.fullmatch(pattern, name) for pattern in LAYOUT)


def test_roll_ups_repeat_the_records(documents: dict[str, dict[str, Any]], lake: Path):
    (raw,) = documents["raw_manifest"].values()
    receipts = [{k: r[k] for k in rollup.FILE_KEYS} for r in documents["receipt"].values()]
    assert by_path(raw["files"]) == by_path(receipts)
    assert list(raw["files"][0]) == list(rollup.FILE_KEYS)

    (bronze,) = documents["bronze_manifest"].values()
    files = [f for p in bronze["partitions"] for f in p["files"]]
    assert sorted((f["delivery_id"], f["content_digest"], f["rows"]) for f in files) == sorted(
        (c["delivery_id"], f["content_digest"], f["rows"])
        for c in documents["bronze_commit"].values()
        for f in c["files"]
    )
    # Where the rows stand now, the archive included: not where they landed.
    assert {f["path"] for f in files if not (lake / "lake" / "bronze" / f["path"]).is_file()} == set()

    front_months = datasets.read(lake, "silver/datasets/dim_front_month")
    assert [front_months.column_names] == [list(row) for row in bronze["contracts"]]
    assert [str(v) for v in front_months.to_pylist()[0].values()] == [
        str(v) for v in bronze["contracts"][0].values()
    ]

    manifest = documents["version_manifest"][MANIFEST]
    found = commits.read_partitions((lake / MANIFEST).parent)
    assert [(d["date"], d["rows"], d["content_digest"], d["status"]) for d in manifest["dates"]] == [
        (p.commit.date, p.commit.rows, p.commit.content_digest, p.status()["status"]) for p in found.values()
    ]


def by_path(entries: list[dict]) -> list[dict]:
    return sorted(entries, key=lambda entry: entry["path"])


def test_experiments_are_there_in_every_state(documents: dict[str, dict[str, Any]]):
    (index,) = documents["experiments"].values()
    states = {entry["id"]: entry["status"] for entry in index["experiments"]}
    assert states == {"exp001": "completed", "exp002": "failed", "exp003": "running"}


# -- what is checked in ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_schema_is_valid(schema: str):
    content = checked_in(schema)
    assert content["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(content)


def test_what_is_checked_in_is_what_make_contracts_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = files_below(contracts.CONTRACTS_DIR)
    # contracts of datasets stand beside these, and are written by `tickhouse contract write`
    before = {n: p.read_bytes() for n, p in here.items() if n.startswith("schemas/") or n == "features.json"}
    monkeypatch.setattr(contracts, "FEATURES_JSON", tmp_path / "features.json")
    monkeypatch.setattr(contracts, "SCHEMAS_DIR", tmp_path / "schemas")
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "of_old.schema.json").write_text("{}")
    contracts.main()
    assert {name: path.read_bytes() for name, path in files_below(tmp_path).items()} == before


def test_schemas_follow_the_model_yaml_and_the_params(tmp_path: Path):
    shutil.copytree(contracts.MODELS_DIR, tmp_path / "models")
    shutil.copytree(params.PARAMS_DIR, tmp_path / "params")
    assert contracts.schemas(tmp_path / "models") == contracts.schemas()

    training_yaml = tmp_path / "models" / "gold" / "market" / "train_signals.yml"
    training_yaml.write_text(
        training_yaml.read_text()
        .replace("name: tape_velocity,", "name: tape_speed,")
        .replace(" tape_velocity,", " tape_speed,")
    )
    with open(tmp_path / "params" / "default.yaml", "a") as f:
        f.write("W_new: 1.5\n")
    changed = contracts.schemas(tmp_path / "models", tmp_path / "params")
    groups = changed["version_manifest"]["properties"]["features"]["properties"]["groups"]["items"]
    listed = groups["additionalProperties"]["properties"]["columns"]["items"]["enum"]
    assert "tape_speed" in listed
    assert "tape_velocity" not in listed
    resolved = changed["version_params"]["properties"]["resolved"]
    assert resolved["properties"]["W_new"] == {"type": "number"}
    assert "W_new" in resolved["required"]


def test_a_version_stores_the_columns_that_its_contract_promises():
    """The set's own YAML and that of its training table say the same of every column that both have."""
    found = [
        version
        for path in contracts.MODELS_DIR.rglob("*.yml")
        for model in (yaml.safe_load(path.read_text()) or {}).get("models", [])
        for version in contracts.of_versions(model)
        if version["config"]["meta"].get("writes_manifest")
    ]
    promised = contracts.features()
    assert {Path(v["config"]["meta"]["folder"]).name for v in found} == set(promised)
    for version in found:
        meta = version["config"]["meta"]
        contract = promised[Path(meta["folder"]).name]
        stored = [contracts._column(version["v"], column) for column in version["columns"]]
        assert meta["semantic_version"] == contract["version"]
        assert stored == [column for column in contract["columns"] if column["role"] != "label"]


def test_enums_are_those_of_the_writers():
    assert checked_in("simulation")["properties"]["profile"]["enum"] == list(get_args(market.Profile))
    simulated = checked_in("simulation")["properties"]["files"]["items"]["properties"]
    assert tuple(simulated["schema"]["enum"]) == (*futures_files.SCHEMAS, *flat_files.HEADERS)
    assert all(re.fullmatch(simulated["fault"]["pattern"], name) for name in faults.FAULTS)
    entry = checked_in("experiments")["properties"]["experiments"]["items"]["properties"]
    assert tuple(entry["status"]["enum"]) == experiments.STATUSES
    scores = checked_in("experiment_metrics")["properties"]["results"]["items"]["properties"]
    assert tuple(scores["stage"]["enum"]) == training.ALL_STAGES


# What a type of SQL is called in a file.
ARROW = {
    "varchar": "string",
    "bigint": "int64",
    "integer": "int32",
    "tinyint": "int8",
    "boolean": "bool",
    "double": "double",
}


@pytest.mark.parametrize("folder", ["silver/features", "gold/training/candidates"])
def test_files_hold_the_columns_that_their_contract_promises(folder: str, lake: Path):
    """Names, order and types; NULL and values as declared. Labels stand in gold only, session dates in the path."""
    for version, contract in contracts.features().items():
        files = sorted((lake / "lake" / folder / version).glob("date=*/data.parquet"))
        assert files
        promised = [
            c
            for c in contract["columns"]
            if c["name"] != "session_date" and (c["role"] != "label" or "gold" in folder)
        ]
        for file in files:
            table = pq.read_table(file, partitioning=None)
            assert table.num_rows
            assert [(f.name, str(f.type)) for f in table.schema] == [
                (c["name"], ARROW[c["dtype"]]) for c in promised
            ]
            for column in promised:
                found = set(table[column["name"]].to_pylist())
                assert column["nullable"] or None not in found, column["name"]
                if column["domain"] is not None:
                    assert found <= {*column["domain"], None}, column["name"]


def test_every_dataset_holds_the_columns_that_its_contract_promises(lake: Path):
    held = contract_documents.datasets()
    built = [n for n, d in held.items() if d.folder and contract_data.newest_file(lake, d.folder)]
    assert {n.partition("/")[0] for n in built} == {"bronze", "silver", "gold"}
    assert [f"{fault.dataset}: {fault.told}" for fault in contract_data.check(lake, held)] == []


# -- what a schema refuses -------------------------------------------------------------------------------------------


def mutants(schema: dict[str, Any], document: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every way to break one place of ``document``: (what was done and where, the broken copy).

    Goes down through the first element of every list and every map.
    """
    if "enum" in schema or "const" in schema or "pattern" in schema:
        yield f"other value {key}", "!"
    if isinstance(document, dict):
        known = schema.get("properties", {})
        for name in schema.get("required", []):
            yield f"dropped {key}{name}", {k: v for k, v in document.items() if k != name}
        if schema.get("additionalProperties") is False:
            yield f"added {key}surplus", {**document, "surplus": 1}
        elif "propertyNames" in schema:
            yield f"added {key}!", {**document, "!": next(iter(document.values()), None)}
        for name in [n for n in document if n in known] or list(document)[:1]:
            inner = known.get(name, schema.get("additionalProperties"))
            if isinstance(inner, dict):
                for what, broken in mutants(inner, document[name], f"{key}{name}."):
                    yield what, {**document, name: broken}
    elif isinstance(document, list) and document:
        for what, broken in mutants(schema.get("items", {}), document[0], f"{key}0."):
            yield what, [broken, *document[1:]]
        if schema.get("uniqueItems"):
            yield f"twice {key}", [document[0], *document]
    if "type" in schema:
        yield f"other type {key}", object_of_another_type(schema["type"])


def object_of_another_type(types: str | list[str]) -> Any:
    return 0.5 if "string" in types or "object" in types or "array" in types else "!"


def short(document: Any) -> Any:
    """The same with at most two elements in each list: quicker, and as good to break."""
    if isinstance(document, dict):
        return {k: short(v) for k, v in document.items()}
    return [short(v) for v in document[:2]] if isinstance(document, list) else document


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_document_that_is_broken_anywhere_is_refused(schema: str, documents: dict[str, dict[str, Any]]):
    content = checked_in(schema)
    kinds = set()
    for name, whole in list(documents[schema].items())[:3]:
        document = short(whole)
        assert contracts.faults(document, schema) == [], name
        untouched = copy.deepcopy(document)
        for what, broken in mutants(content, document):
            assert contracts.faults(broken, schema), f"{name}: {what}"
            kinds.add(what.partition(" ")[0])
        assert document == untouched
    assert {"dropped", "added", "other"} <= kinds


@pytest.mark.parametrize(
    ("schema", "change"),
    [
        ("receipt", {"status": "landed", "reason": "because"}),
        ("receipt", {"status": "landed", "symbols": None}),
        ("receipt", {"status": "landed", "record_count": None}),
        ("receipt", {"status": "archived"}),
        ("receipt", {"status": "quarantined"}),
        ("receipt", {"date": "2025-02-30"}),
        ("receipt", {"ts_first_ns": 1_760_000_000}),
        ("dataset_status", {"status": "ok", "error": "data tests failed: x"}),
        ("dataset_status", {"status": "failed", "error": None}),
        ("dataset_commit", {"rows": -1}),
        ("dataset_commit", {"rows": True}),
        ("simulation", {"scale": 0}),
        ("simulation", {"scale": 1.5}),
        ("version_manifest", {"parameters": {"W_bb": 240}}),
        ("version_manifest", {"parameters": {"W_b": 0.5}}),
        ("version_manifest", {"tags": ["a", "a"]}),
        ("features", {"v1.0": {"version": "1.0.0", "columns": []}}),
    ],
)
def test_keys_that_contradict_each_other_are_refused(
    schema: str, change: dict, documents: dict[str, dict[str, Any]]
):
    document = next(d for d in documents[schema].values() if d.get("status") != "quarantined")
    assert contracts.faults(document, schema) == []
    assert contracts.faults({**document, **change}, schema)


@pytest.mark.parametrize("key", ["param_set", "params_digest", "build_digest", "model_path", "model_metrics"])
def test_a_completed_experiment_knows_what_it_was_made_of(key: str, documents: dict[str, dict[str, Any]]):
    (index,) = documents["experiments"].values()
    entry = index["experiments"][0]
    assert contracts.faults({"experiments": [{**entry, "status": "running", key: None}]}, "experiments") == []
    (fault,) = contracts.faults({"experiments": [{**entry, key: None}]}, "experiments")
    assert fault.key == ("experiments", 0, key)


# -- readers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"owner": "ann"}, "unknown key owner, expected only version, name"),
        ({"notes": ...}, "key notes was missing, expected it to be there"),
        ({"status": "relased"}, "status was 'relased', expected one of draft, released, archived"),
        ({"version": 1.0}, 'version was 1.0, expected type "string"'),
        ({"created_at": date(2025, 12, 24)}, "created_at was datetime.date(2025, 12, 24), expected type"),
        ({"parameters": {"W_bb": 1}}, "unknown key parameters.W_bb, expected only"),
        (
            {"features": {"groups": [{"level": {"columns": ["distanse"], "dependencies": []}}]}},
            "features.groups.0.level.columns.0 was 'distanse', expected one of level_kind_name",
        ),
        (
            {"features": {"groups": [{"lvl": {"columns": ["distance"], "dependencies": []}}]}},
            "features.groups.0 was 'lvl', expected one of level",
        ),
    ],
)
def test_a_manifest_that_is_not_the_schemas_is_refused_in_one_line(
    change: dict, told: str, lake: Path, tmp_path: Path
):
    content = versions.read_manifest(lake / MANIFEST) | change
    folder = tmp_path / "lake" / "silver" / "features" / VERSION
    folder.mkdir(parents=True)
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not ...}, sort_keys=False))
    for reader in (
        lambda: versions.read_manifest(path),
        lambda: experiments.silver_manifest(tmp_path, VERSION),
    ):
        with pytest.raises(BrokenContract) as refused:
            reader()
        assert str(refused.value).startswith(f"{VERSION}/manifest.yaml: {told}")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1\nb: 2", "was not YAML ("),
        ("", "document was None, expected type"),
        ("- 1", "document was [1]"),
    ],
)
def test_what_is_no_manifest_at_all_is_refused_in_one_line(text: str, told: str, tmp_path: Path):
    path = tmp_path / VERSION / "manifest.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(BrokenContract) as refused:
        versions.read_manifest(path)
    assert str(refused.value).startswith(f"{VERSION}/manifest.yaml: {told}")
    assert "\n" not in str(refused.value)
    assert isinstance(refused.value, ValueError)
