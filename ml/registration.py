"""The registry after a move: entries of models, aliases on others, history told. Nothing is written here.

Source: spec/market.md 14.5, 14.8.
"""

import hashlib
from pathlib import Path
from typing import Any

from lake import atomic, runs
from lake.commits import now_utc
from ml import challenge, experiments
from ml.placing import INDEX, MODELS, PRODUCTION, RETRIEVAL, VERSIONS, production_copy, registered_copy
from ml.registry import CHALLENGER, CHAMPION

PRIMARY_STAGE = "touch"


def head_set(head: str, stage: str) -> str:
    """Name of what a champion serves: one head at one stage."""
    return f"{head}_{stage}"


def with_champion(
    root: Path,
    now: dict,
    number: int,
    stored: experiments.Stored,
    manifest: dict,
    verdict: challenge.Verdict | None,
    notes: str,
) -> dict[str, Any]:
    """The registry after the promotion: new entries, aliases moved, history told."""
    at = now_utc()
    experiment_id = experiments.parse_name(stored.path.name)
    published = (number, manifest["content_digest"])
    entries, champions = _entries(root, now, stored, published, _comparison(now, verdict, at), at)
    dataset = {
        "dataset_version": number,
        "content_digest": manifest["content_digest"],
        "manifest_sha256": atomic.sha256_file(root / VERSIONS / f"v={number}" / "manifest.yaml"),
    }
    index = root / VERSIONS / f"v={number}" / INDEX
    promotion = {
        **dataset,
        "retrieval": {"path": RETRIEVAL, "sha256": atomic.sha256_file(index), "bytes": index.stat().st_size},
        "stages": stored.config["inputs"]["training"]["stages"],
        "features": stored.config["inputs"]["features"],
        "experiment": stored.path.name,
        "artifact_sha256": artifact_sha256(stored),
        "champions": champions,
        "at": at,
        "notes": notes,
    }
    changed = {**now, "models": entries, "promotions": [*now["promotions"], promotion]}
    return switched(changed, promotion, at, f"promote {experiment_id}" + (f": {notes}" if notes else ""))


def with_challenger(
    root: Path, now: dict, stored: experiments.Stored, verdict: challenge.Verdict | None, notes: str
) -> dict[str, Any]:
    """The registry with the experiment as challenger; what serves, and what a rollback goes back to, stay."""
    at = now_utc()
    entries, challengers = _entries(root, now, stored, None, _comparison(now, verdict, at), at)
    reason = f"challenge by {experiments.parse_name(stored.path.name)}" + (f": {notes}" if notes else "")
    return moved({**now, "models": entries}, CHALLENGER, challengers, at, reason)


def _entries(
    root: Path,
    now: dict,
    stored: experiments.Stored,
    published: tuple[int, str] | None,
    comparison: dict | None,
    at: str,
) -> tuple[list[dict], dict[str, str]]:
    """All models with those of the experiment among them, and its own by head set.

    Raises ExperimentError where it has no final model, or is registered with other files: a rollback needs those.
    """
    name = stored.path.name
    entries = {m["model_id"]: m for m in now["models"]}
    mine = {}
    for result in _final(stored):
        entry = _entry(root, stored, published, result, comparison, at)
        before = entries.get(entry["model_id"])
        if before is not None:
            served = any(before["model_id"] in p["champions"].values() for p in now["promotions"])
            if served and before["artifact"]["sha256"] != entry["artifact"]["sha256"]:
                raise experiments.ExperimentError(
                    f"{name} was promoted before with another model, which a rollback would look for; "
                    "train under a name of its own"
                )
            if published is None and served:
                entry |= {k: before[k] for k in ("dataset_version", "dataset_digest", "production")}
        entries[entry["model_id"]] = entry
        mine[head_set(result["head"], result["stage"])] = entry["model_id"]
    if not mine:
        raise experiments.ExperimentError(f"{name} has no final model, expected at least one head; train it")
    return [entries[m] for m in sorted(entries)], mine


def production_files(root: Path, now: dict, stored: experiments.Stored) -> dict[str, bytes]:
    """The production copies of an experiment by name: of a model that served, the very bytes that did."""
    served = {m for p in now["promotions"] for m in p["champions"].values()}
    before = {m["model_id"]: m for m in now["models"] if m["model_id"] in served}
    files = {}
    for result in _final(stored):
        known = before.get(_model_id(stored, result))
        files[_file_name(stored, result)] = (
            registered_copy(root, now, known)
            if known and known["artifact"]["sha256"] == artifact_sha256(stored)
            else production_copy(root, stored.path.name, result["head"], result["stage"])
        )
    return files


def _final(stored: experiments.Stored) -> list[dict]:
    """The results of heads that have a model to serve."""
    return [r for r in stored.metrics["results"] if not r["skipped"] and not r["final_skipped"]]


def _model_id(stored: experiments.Stored, result: dict) -> str:
    return f"{experiments.parse_name(stored.path.name)}_{head_set(result['head'], result['stage'])}"


def _file_name(stored: experiments.Stored, result: dict) -> str:
    ablation = stored.config["inputs"]["training"]["ablation"]
    return f"{head_set(result['head'], result['stage'])}_{ablation}.joblib"


def _comparison(now: dict, verdict: challenge.Verdict | None, at: str) -> dict[str, Any] | None:
    """The verdict as a registry keeps it: against whom, and when."""
    if verdict is None:
        return None
    champion_id = now["aliases"][CHAMPION][head_set(experiments.PRIMARY_HEAD, PRIMARY_STAGE)]
    return {"against": champion_id, "at": at, **verdict.state()}


def switched(content: dict, promotion: dict, at: str, reason: str) -> dict[str, Any]:
    """``content`` with the champions and the dataset of ``promotion``, statuses and history following.

    What serves challenges nobody any more.
    """
    after = promotion["champions"]
    serving = {m["experiment_id"] for m in content["models"] if m["model_id"] in after.values()}
    of = {m["model_id"]: m["experiment_id"] for m in content["models"]}
    left = {k: v for k, v in content["aliases"][CHALLENGER].items() if of[v] not in serving}
    content = moved(content, CHALLENGER, left, at, reason)
    dataset = {k: promotion[k] for k in ("dataset_version", "content_digest", "manifest_sha256")}
    return {**moved(content, CHAMPION, after, at, reason), "dataset": dataset}


def moved(content: dict, alias: str, after: dict[str, str], at: str, reason: str) -> dict[str, Any]:
    """``content`` with an alias of each head set on other models, or on none; history and statuses follow."""
    before = content["aliases"][alias]
    history = [
        {"at": at, "alias": f"{alias}/{k}", "from": before.get(k), "to": after.get(k), "reason": reason}
        for k in sorted(before.keys() | after.keys())
        if before.get(k) != after.get(k)
    ]
    aliases = {**content["aliases"], alias: dict(sorted(after.items()))}
    served = {m for p in content["promotions"] for m in p["champions"].values()}

    def status(model_id: str) -> str:
        if model_id in aliases[CHAMPION].values():
            return "production"
        waits = model_id in aliases[CHALLENGER].values() or model_id not in served
        return "candidate" if waits else "archived"

    models = [{**m, "status": status(m["model_id"])} for m in content["models"]]
    return {**content, "models": models, "aliases": aliases, "history": [*content["history"], *history]}


def _entry(
    root: Path,
    stored: experiments.Stored,
    published: tuple[int, str] | None,
    result: dict,
    comparison: dict | None,
    at: str,
) -> dict[str, Any]:
    """A model of one head at one stage. ``published``: version and content digest of its table, None before there is
    one.
    """
    inputs = stored.config["inputs"]
    number, digest = published or (None, inputs["dataset_digest"])
    file = _file_name(stored, result)
    if published:
        copy = (root / VERSIONS / f"v={number}" / MODELS / file).read_bytes()
    else:
        copy = production_copy(root, stored.path.name, result["head"], result["stage"])
    chosen = next((c for c in stored.metrics["components"] if c["stage"] == result["stage"]), None)
    pooled = result["pooled"]
    return {
        "model_id": _model_id(stored, result),
        "experiment_id": stored.path.name,
        "head": result["head"],
        "stage": result["stage"],
        "ablation": inputs["training"]["ablation"],
        "horizon": None,
        "algo": "lightgbm",
        "params": inputs["training"],
        "features": inputs["features"],
        "feature_schema_hash": inputs["feature_schema_hash"],
        "silver_version": inputs["silver_version"],
        "build_digest": stored.config["build_digest"],
        "dataset_version": number,
        "dataset_digest": digest,
        "train_dates": [*stored.config["final"]["train"], *stored.config["final"]["inner"]],
        "test_dates": sorted({d for fold in stored.config["folds"] for d in fold["test"]}),
        "metrics_per_fold": result["folds"],
        "metrics_mean": result["mean"],
        "ci": (pooled or {}).get("ci"),
        "base_rates": None if pooled is None else {k: pooled[k] for k in ("base_rate", "class_prior")},
        "calibration": result.get("calibration"),
        "components": chosen and {k: chosen[k] for k in ("use_knn", "use_gate", "calibration")},
        "null_check": None,
        "artifact": {**stored.metrics["artifact"]},
        "production": {
            "path": f"{PRODUCTION}/{file}",
            "sha256": hashlib.sha256(copy).hexdigest(),
            "bytes": len(copy),
        },
        "git_commit": runs.git_commit(),
        "created_at": at,
        "status": "candidate",
        "comparison": comparison,
    }


def artifact_sha256(stored: experiments.Stored) -> str:
    return stored.metrics["artifact"]["sha256"]
