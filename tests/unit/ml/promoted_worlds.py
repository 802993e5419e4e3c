"""A gold table that passes every gate, the records that a promotion asks for, and experiments trained on it."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake import atomic, audit, commits, contracts
from ml import datasets, experiments, gates, placing, promotion, training
from tests.unit.ml import ml_worlds, silver_worlds

VERSION = ml_worlds.VERSION
ONE, TWO = "exp001_first", "exp002_second"
QUICK = {"max_rounds": 12, "stopping_rounds": 5, "bootstrap_draws": 200}


def world(planted: bool = True, sessions: int = 24, touches: int = 30, seed: int = 1) -> pa.Table:
    """Gold rows that pass every gate: columns that nothing was drawn for vary here, as real ones do."""
    table = ml_worlds.gold(sessions=sessions, touches=touches, planted=planted, seed=seed)
    rng = np.random.default_rng(seed)
    n = table.num_rows
    for k in (1, 2):
        reached = pc.equal(table[f"tradeable_{k}"], 1).to_numpy(zero_copy_only=False)
        table = put(table, f"time_to_threshold_{k}", pa.array(rng.uniform(1, 400, n), mask=~reached))
    for name in gates.BOUNDED:
        table = put(table, name, pa.array(rng.uniform(-1, 1, n)))
    for name in ["gamma_pressure_accel", *ml_worlds.FUEL.split()]:
        if name == "fuel_effect":
            table = put(table, name, pa.array(rng.choice(["AMPLIFY", "DAMPEN", "NEUTRAL"], n)))
        elif name == "gamma_bucket":
            table = put(table, name, pa.array(rng.choice(["SHORT_GAMMA", "LONG_GAMMA"], n)))
        else:
            table = put(table, name, pa.array(rng.normal(0, 1, n)))
    return table


def contract() -> datasets.Contract:
    """The columns of the version with the types that the rows have."""
    types = world(sessions=2, touches=2).schema
    declared = ml_worlds.contract()
    names = {
        "string": "varchar",
        "bool": "boolean",
        "double": "double",
        "date32[day]": "date",
        "int8": "tinyint",
    }
    columns = [
        dataclasses.replace(c, dtype=names.get(str(types.field(c.name).type), "bigint"))
        for c in declared.columns
    ]
    return datasets.Contract(declared.version, tuple(columns))


def put(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def landed(root: Path, table: pa.Table, version: str = VERSION) -> None:
    """A built, tested, released and audited version over ``table``."""
    ml_worlds.commit_gold(root, table, version)
    for partition in commits.read_partitions(root / "lake" / datasets.folder(version)).values():
        commits.mark(partition, True, None, "20251216T200000Z_build_000000")
    silver_worlds.put_version(root, version, {"tape_velocity": [1.0, 2.0]})
    metadata = root / "lake" / "silver" / "features" / version / "_metadata"
    atomic.write_json(metadata / "release.json", {"datasets": {}})
    audited(root, version=version)


def audited(
    root: Path, passed: bool = True, told: str = "no row of 100 changed", version: str = VERSION
) -> None:
    digest = experiments.silver_manifest(root, version)["digests"]["build"]
    record = {
        "version": version, "build_digest": digest, "passed": passed, "told": told, "session_date": "2025-12-15",
        "asof_ns": 1_766_000_000_000_000_000, "rows": 100, "audited_at": "2025-12-24T00:00:00Z",
    }  # fmt: skip
    contracts.check(record, "audit", "audit")
    atomic.write_json(audit.audit_path(root, version, digest), record)


def trained(root: Path, name: str, replace: bool = False, **changes: object) -> None:
    config = training.Config(**{**QUICK, **changes})
    training.train(root, VERSION, name, config=config, contract=contract(), replace=replace)


def promote(root: Path, name: str = ONE, **options: object) -> promotion.Promoted:
    return promotion.promote(root, name, contract=contract(), **{"min_events": 500, **options})


def tree(root: Path) -> dict[str, str]:
    """Everything that serves, by the hash of its bytes; the pointer tells when it moved and is left out."""
    places = [
        root / placing.RETRIEVAL,
        *(root / placing.PRODUCTION).glob("*"),
        *(root / placing.GOLD).glob("*.*"),
    ]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in places if p.name != "pointer.json"}
