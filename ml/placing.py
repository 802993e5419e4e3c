"""What follows from the registry: the published table, production copies, and what else a promotion places.

All of it can be made again from ``ml/registry.json``, the experiments and the versions of the table, so that whoever
comes next finishes what a crash left undone. Source: spec/market.md 13.1, 14.8; architecture section 5.
"""

import hashlib
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from lake import atomic, contracts
from lake.commits import now_utc
from lake.digest import file_digest, table_digest
from lake.paths import stage_dir
from ml import datasets, experiments, registry, retrieval
from ml.gates import Gate
from ml.registry import CHAMPION, Artifact

GOLD = "lake/gold/training"
VERSIONS = f"{GOLD}/versions/signals_production"
PRODUCTION = "ml/production/boosted_trees"
RETRIEVAL = "ml/production/retrieval_index.joblib"
INDEX, MODELS = "retrieval_index.joblib", "models"
"""Beside a version's table: made again by later code they needn't come out with the bytes that served."""


def write_version(
    root: Path,
    number: int,
    table: pa.Table,
    stored: experiments.Stored,
    judged: Sequence[Gate],
    now: dict,
    notes: str,
    models: Mapping[str, bytes],
) -> dict[str, Any]:
    """``versions/signals_production/v=<n>``, whole, checked by reading it again; returns its manifest.

    ``models`` are the bytes of its production copies, by name. What a crash left there is of no promotion, and goes.
    """
    folder = root / VERSIONS / f"v={number}"
    staged = stage_dir(root) / f"signals_production-v={number}"
    for stray in (folder, staged):
        shutil.rmtree(stray, ignore_errors=True)
    atomic.make_dirs(staged)
    data = staged / "data.parquet"
    pq.write_table(
        table, data, compression="zstd", compression_level=3, version="2.6", data_page_version="2.0",
        row_group_size=122_880,
    )  # fmt: skip
    atomic.fsync_file(data)
    digest = file_digest(data)
    if digest != table_digest(table):
        raise OSError(f"{data.name} of v={number} came back different from what was written; check the disk")
    manifest = _manifest(root, number, table, digest, stored, judged, now, notes)
    contracts.check(manifest, "signals_production", "signals_production manifest")
    atomic.write_text(staged / "manifest.yaml", yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True))
    inputs = stored.config["inputs"]
    atomic.write_bytes(
        staged / INDEX, _retrieval_index(table, inputs["training"]["stages"], inputs["features"])
    )
    atomic.make_dirs(staged / MODELS)
    for name, content in models.items():
        atomic.write_bytes(staged / MODELS / name, content)
    atomic.fsync_dir(staged)
    atomic.make_dirs(folder.parent)
    atomic.replace(staged, folder)
    return manifest


def _manifest(
    root: Path,
    number: int,
    table: pa.Table,
    digest: str,
    stored: experiments.Stored,
    judged: Sequence[Gate],
    now: dict,
    notes: str,
) -> dict[str, Any]:
    inputs = stored.config["inputs"]
    dates = sorted(set(datasets.session_dates(table).tolist()))
    labels: dict[str, dict[str, int]] = {}
    for row in table.group_by(["stage", "outcome"]).aggregate([([], "count_all")]).to_pylist():
        labels.setdefault(row["stage"], {})[row["outcome"]] = row["count_all"]
    return {
        "dataset_name": "signals_production",
        "dataset_version": number,
        "silver_version": inputs["silver_version"],
        "build_digest": stored.config["build_digest"],
        "params_digest": stored.config["params_digest"],
        "content_digest": digest,
        "created_at": now_utc(),
        "experiment_id": stored.path.name,
        "signal_count": pc.count_distinct(table["event_id"]).as_py(),
        "row_count": table.num_rows,
        "feature_count": len(inputs["features"]),
        "date_range": [dates[0], dates[-1]],
        "dates": dates,
        "label_distribution": {s: dict(sorted(labels[s].items())) for s in sorted(labels)},
        "null_rates": {n: table[n].null_count / table.num_rows for n in inputs["features"]},
        "gates": [{"name": g.name, "value": g.value, "verdict": "passed"} for g in judged],
        "previous_version": (now["dataset"] or {}).get("dataset_version"),
        "notes": notes,
    }


def require_whole(root: Path, content: dict) -> None:
    """Raise AlteredModel unless everything that ``content``, a registry, says that serves can be placed as it was.

    Asked before a switch as well as after it: a registry never names what can't be placed.
    """
    serving = {m["model_id"]: m for m in content["models"]}
    for model_id in content["aliases"][CHAMPION].values():
        registered_copy(root, content, serving[model_id])
    number = content["dataset"]["dataset_version"]
    promotion = next(p for p in content["promotions"] if p["dataset_version"] == number)
    place = f"{VERSIONS}/v={number}"
    for name, sha256 in (
        (INDEX, promotion["retrieval"]["sha256"]),
        ("manifest.yaml", promotion["manifest_sha256"]),
    ):
        if not _holds(root / place / name, sha256):
            raise registry.AlteredModel(
                f"{place}/{name} is missing or not the registered one any more; put it back as it was"
            )


def finish(root: Path) -> None:
    """Place what the registry says that serves: production copies, then the table, its manifest, and the pointer last.

    Does nothing where all of it stands; run after every switch, and before the next. Call under `registry.locked`.
    """
    now = registry.read(root)
    if now["dataset"] is None:
        return
    require_whole(root, now)
    serving = {m["model_id"]: m for m in now["models"]}
    kept = set()
    for model_id in now["aliases"][CHAMPION].values():
        entry = serving[model_id]
        artifact = Artifact(**entry["production"])
        kept.add(root / artifact.path)
        if not _holds(root / artifact.path, artifact.sha256):
            atomic.write_bytes(root / artifact.path, registered_copy(root, now, entry))
    half_written = [
        p for folder in (PRODUCTION, GOLD, "ml/production") for p in (root / folder).glob("._tmp-*")
    ]
    for stray in [*half_written, *set((root / PRODUCTION).glob("*.joblib")) - kept]:
        stray.unlink()
    number = now["dataset"]["dataset_version"]
    version = root / VERSIONS / f"v={number}"
    _copy(version / INDEX, root / RETRIEVAL, root)
    _copy(version / "manifest.yaml", root / GOLD / "manifest.yaml", root)
    _copy(version / "data.parquet", root / GOLD / "signals_production.parquet", root)
    pointer = root / GOLD / "pointer.json"
    old = atomic.read_json(pointer) if pointer.is_file() else None
    if old is None or old["dataset_version"] != number:
        moved = {
            "dataset_version": number,
            "content_digest": now["dataset"]["content_digest"],
            "switched_at": now["updated_at"],
            "switched_by": now["history"][-1]["reason"],
            "previous": None if old is None else old["dataset_version"],
        }
        contracts.check(moved, "pointer", "pointer.json")
        atomic.write_json(pointer, moved)
    _tell_experiments(root, now)


def _tell_experiments(root: Path, now: dict) -> None:
    """What the registry says of each comparison, in ``experiments.json`` too (spec/market.md 14.5)."""
    known = {e["id"]: e for e in experiments.read_index(root)}
    for model in now["models"]:
        entry = known.get(experiments.parse_name(model["experiment_id"]))
        if (
            entry is not None
            and model["comparison"] is not None
            and entry.get("comparison") != model["comparison"]
        ):
            told = {"id": entry["id"], "comparison": model["comparison"]}
            known[entry["id"]] = experiments.upsert(root, told, replace=True)


def production_copy(root: Path, experiment: str, head: str, stage: str) -> bytes:
    """Bytes of one head's file: its model with all that predicting needs, the same at every call."""
    model = experiments.load_model(root, experiment)
    alone = {k: v for k, v in model.items() if k != "models"}
    buffer = io.BytesIO()
    joblib.dump(
        experiments.canonical({**alone, "head": head, "stage": stage, "model": model["models"][stage][head]}),
        buffer,
    )
    return buffer.getvalue()


def registered_copy(root: Path, content: dict, entry: dict) -> bytes:
    """The production file of a model that served, as ``content``, a registry, says its bytes are.

    It is looked for in its place and beside the tables that it served with; where lakes of before kept none, it is made
    out of the experiment again. Raises AlteredModel when no way leads to the registered bytes.
    """
    model_id, artifact = entry["model_id"], Artifact(**entry["production"])
    place = root / artifact.path
    served = [p["dataset_version"] for p in content["promotions"] if model_id in p["champions"].values()]
    kept = [place, *(root / VERSIONS / f"v={n}" / MODELS / place.name for n in served)]
    for file in kept:
        if file.is_file() and _sha256(data := file.read_bytes()) == artifact.sha256:
            return data
    data = production_copy(root, entry["experiment_id"], entry["head"], entry["stage"])
    if _sha256(data) != artifact.sha256:
        raise registry.AlteredModel(
            f"{kept[-1].relative_to(root)} is missing or not the registered file of {model_id} any more, and "
            f"{entry['experiment_id']}/model.joblib doesn't give it; put one of them back as it was"
        )
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _retrieval_index(table: pa.Table, stages: Sequence[str], features: Sequence[str]) -> bytes:
    """Bytes of the index of past events, by stage, out of a table that is published."""
    names = [n for n in features if n not in datasets.CATEGORICAL_COLUMNS]
    states = {
        stage: retrieval.Index.build(table.filter(pc.equal(table["stage"], stage)), names).state()
        for stage in stages
    }
    buffer = io.BytesIO()
    joblib.dump(experiments.canonical(states), buffer)
    return buffer.getvalue()


def _holds(file: Path, sha256: str) -> bool:
    return file.is_file() and atomic.sha256_file(file) == sha256


def _copy(source: Path, place: Path, root: Path) -> None:
    """Put a copy of ``source`` in ``place``, whole or not at all, unless it stands there."""
    if _holds(place, atomic.sha256_file(source)):
        return
    staged = stage_dir(root) / f"{place.name}.copy"
    atomic.make_dirs(staged.parent)
    shutil.copyfile(source, staged)
    atomic.fsync_file(staged)
    atomic.make_dirs(place.parent)
    atomic.replace(staged, place)
