"""Experiments on disk: a folder that is replaced as a whole, and one line each in ``experiments.json``.

A folder under construction is a hidden sibling. It takes the place of the old one by two renames, with the
old one set aside in between; whoever opens an experiment next puts it back if the second rename never came.
So a crash leaves the old result or the new one, never files of both.
"""

import contextlib
import datetime
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import yaml
from filelock import FileLock

from lake import atomic, contracts, versions

NAME = re.compile(r"^(exp\d{3,})_[a-z0-9]+(?:_[a-z0-9]+)*$")
FILES = ("model.joblib", "metrics.json", "config.yaml")
STATUSES = ("running", "completed", "failed", "archived")
# Its out-of-fold Brier skill against the base rate decides promotion (spec/market.md 13.1, gate 9).
PRIMARY_HEAD = "tradeable_2"
LOCK_TIMEOUT_S = 600


class ExperimentError(ValueError):
    """An experiment's name, entry or files can't be used; the message says which and what to do."""


class ExperimentIsFinal(ExperimentError):
    """A completed experiment would be changed."""


class AlteredArtifact(ExperimentError):
    """A model file isn't the one that its metrics were computed from."""


@dataclass(frozen=True)
class Stored:
    """A whole experiment: its folder, and its two readable files."""

    path: Path
    config: dict
    metrics: dict


def parse_name(experiment: str) -> str:
    """The id of a full name: ``exp001`` of ``exp001_mechanics_only``. Raises ExperimentError."""
    match = NAME.match(experiment)
    if not match:
        raise ExperimentError(
            f"experiment was {experiment!r}, expected expNNN_name such as exp001_mechanics_only; rename it"
        )
    return match[1]


def experiments_dir(root: Path) -> Path:
    return root / "ml" / "experiments"


def index_path(root: Path) -> Path:
    return root / "lake" / "silver" / "features" / "experiments.json"


@contextlib.contextmanager
def locked(root: Path, experiment: str) -> Iterator[None]:
    """Hold the one right to write ``experiment``; a second trainer waits up to ten minutes, then Timeout."""
    folder = experiments_dir(root)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"._lock-{parse_name(experiment)}", timeout=LOCK_TIMEOUT_S):
        yield


# --- the folder ---------------------------------------------------------------------------------------


def write(
    root: Path, experiment: str, *, config: dict, metrics: dict, model: dict, notes: str = ""
) -> Stored:
    """Publish the three files of ``experiment`` together and return what is stored.

    ``model`` holds builtins and numpy arrays only, so that reading it needs no code of ours. ``metrics``
    gains the ``artifact``: sha256 and size of the model file. Call under `locked`.
    """
    final = experiments_dir(root) / experiment
    _finish_or_undo(final)
    new, old = _aside(final, "new"), _aside(final, "old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    joblib.dump(canonical(model), new / "model.joblib", compress=0)
    atomic.fsync_file(new / "model.joblib")
    artifact = {
        "path": f"ml/experiments/{experiment}/model.joblib",
        "sha256": atomic.sha256_file(new / "model.joblib"),
        "bytes": (new / "model.joblib").stat().st_size,
    }
    atomic.write_json(new / "metrics.json", {**metrics, "artifact": artifact})
    atomic.write_text(
        new / "config.yaml", yaml.safe_dump({**config, "notes": notes}, sort_keys=False, allow_unicode=True)
    )
    atomic.fsync_dir(new)
    if final.exists():
        os.rename(final, old)
    os.rename(new, final)
    atomic.fsync_dir(final.parent)
    shutil.rmtree(old, ignore_errors=True)
    stored = find(root, experiment)
    if stored is None:
        raise ExperimentError(
            f"{experiment} could not be read back after writing; check the disk and train again"
        )
    return stored


def find(root: Path, experiment: str) -> Stored | None:
    """The stored experiment, or None when there is no whole one."""
    path = _whole(experiments_dir(root) / experiment)
    if path is None:
        return None
    stored = Stored(path, _read(path / "config.yaml"), _read(path / "metrics.json"))
    if atomic.sha256_file(path / "model.joblib") != stored.metrics["artifact"]["sha256"]:
        return None
    return stored


def load_model(root: Path, experiment: str) -> dict:
    """The model artifact; its bytes are compared with the hash in ``metrics.json`` before unpickling.

    Raises ExperimentError when there is no such experiment, AlteredArtifact when the file changed.
    """
    path = _whole(experiments_dir(root) / experiment)
    if path is None:
        raise ExperimentError(
            f"experiment {experiment} was not there, expected {', '.join(FILES)}; run `tickhouse train`"
        )
    expected = _read(path / "metrics.json")["artifact"]["sha256"]
    data = (path / "model.joblib").read_bytes()
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise AlteredArtifact(
            f"{experiment}/model.joblib had sha256 {actual}, expected {expected}; train it again"
        )
    return joblib.load(io.BytesIO(data))


def _read(path: Path) -> dict:
    """A JSON or YAML file that training wrote. Raises ExperimentError with its name when it can't be read."""
    try:
        content = (json.loads if path.suffix == ".json" else yaml.safe_load)(path.read_text())
    except (ValueError, yaml.YAMLError) as error:
        raise ExperimentError(
            f"{path} could not be read ({' '.join(str(error).split())}), expected it as training wrote it; "
            "put it back, or move it away and train again"
        ) from error
    if not isinstance(content, dict):
        raise ExperimentError(f"{path} was no mapping, expected it as training wrote it; put it back")
    return content


def _whole(final: Path) -> Path | None:
    """Where an experiment's files stand: in its place or, when its replacement was cut short, aside."""
    for path in (final, _aside(final, "old")):
        if all((path / name).is_file() for name in FILES):
            return path
    return None


def _aside(final: Path, what: str) -> Path:
    return final.with_name(f"._{what}-{final.name}")


def _finish_or_undo(final: Path) -> None:
    """End an exchange that a crash cut short. Under `locked` only: a reader must not move folders."""
    old = _aside(final, "old")
    if old.exists() and final.exists():
        shutil.rmtree(old)
    elif old.exists():
        os.rename(old, final)
        atomic.fsync_dir(final.parent)


def canonical(value: object) -> object:
    """``value`` rebuilt from fresh containers with equal strings shared.

    Pickle writes an object that it has seen as a reference: bytes would hang on which equal strings happen
    to be one object. Raises TypeError for anything but builtins and numpy arrays.
    """
    strings: dict[str, str] = {}

    def rebuild(v: object) -> object:
        match v:
            case str():
                return strings.setdefault(v, v)
            case None | bool() | int() | float():
                return v
            case dict():
                return {rebuild(k): rebuild(x) for k, x in v.items()}
            case list() | tuple():
                return [rebuild(x) for x in v]
            case np.ndarray() if v.dtype != object:
                return np.array(v)
        raise TypeError(
            f"artifact held a {type(v).__name__}, expected builtins and numpy arrays only; store its state"
        )

    return rebuild(value)


# --- experiments.json ---------------------------------------------------------------------------------


def read_index(root: Path) -> list[dict]:
    """All entries of ``experiments.json`` in order of id; empty when there is none."""
    path = index_path(root)
    return _read(path)["experiments"] if path.is_file() else []


def entry_of(root: Path, name: str) -> dict:
    """The entry of an experiment, by its id or its full name. Raises ExperimentError with the ids that there are."""
    entries = {e["id"]: e for e in read_index(root)}
    experiment_id = name.partition("_")[0]
    if experiment_id not in entries:
        raise ExperimentError(
            f"experiment was {name!r}, expected one of {', '.join(entries) or 'nothing yet'}; "
            "`tickhouse experiments list` tells more"
        )
    return entries[experiment_id]


def stored_of(root: Path, experiment_id: str) -> Stored | None:
    """The files of an experiment by its id, None where it has none."""
    names = [p.name for p in experiments_dir(root).glob(f"{experiment_id}_*")]
    return find(root, names[0]) if names else None


@contextlib.contextmanager
def _index_locked(root: Path) -> Iterator[None]:
    """Hold the one right to write ``experiments.json``; who holds it may take it again."""
    path = index_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name("._lock-experiments"), timeout=LOCK_TIMEOUT_S, is_singleton=True):
        yield


def upsert(root: Path, entry: dict, *, replace: bool = False) -> dict:
    """Insert or update the entry of ``entry["id"]`` under a file lock, and return what is stored.

    Keys that ``entry`` lacks keep their value. A completed entry is final: only ``archived`` may follow,
    and anything else that would change it raises ExperimentIsFinal unless ``replace``. Source:
    spec/market.md 11.4.
    """
    if not re.fullmatch(r"exp\d{3,}", entry["id"]):
        raise ExperimentError(
            f"experiment id was {entry['id']!r}, expected exp and three or more digits; rename it"
        )
    if entry.get("status", "running") not in STATUSES:
        raise ExperimentError(
            f"status was {entry['status']!r}, expected one of {', '.join(STATUSES)}; name one of them"
        )
    path = index_path(root)
    with _index_locked(root):
        entries = {e["id"]: e for e in read_index(root)}
        before = entries.get(entry["id"])
        after = {**(before or _blank(entry["id"])), **entry}
        if before is not None and before["status"] in ("completed", "archived") and not replace:
            allowed = before if before["status"] == "archived" else {**before, "status": after["status"]}
            if after != before and not (after["status"] == "archived" and after == allowed):
                raise ExperimentIsFinal(
                    f"experiment {entry['id']} was {before['status']}, expected an unfinished one; "
                    "give the new run an id of its own"
                )
        if after != before:
            entries[entry["id"]] = after
            ordered = [entries[i] for i in sorted(entries, key=lambda i: int(i.removeprefix("exp")))]
            atomic.write_json(path, {"experiments": ordered})
        return after


def _blank(experiment_id: str) -> dict:
    return {
        "id": experiment_id,
        "version": None,
        "created_at": _now(),
        "status": "running",
        "parent": None,
        "param_set": None,
        "params_digest": None,
        "build_digest": None,
        "stage": None,
        "metrics": {},
        "model_path": None,
        "model_metrics": None,
        "tags": [],
        "notes": "",
    }


def register(
    root: Path,
    version: str,
    *,
    experiment_id: str | None = None,
    status: str = "running",
    parent: str | None = None,
    stage: str | None = None,
    tags: Sequence[str] = (),
    notes: str = "",
    metrics: Mapping[str, float | None] | None = None,
) -> dict:
    """Insert or update an experiment by hand and return its entry; ``experiment_id`` defaults to the next free one.

    Params and build digest are those of the version's manifest. Raises ExperimentError when the version isn't built
    or ``parent`` isn't registered, ExperimentIsFinal when the entry is completed.
    """
    manifest = silver_manifest(root, version)
    if not manifest:
        raise ExperimentError(
            f"version was {version!r}, expected one with a manifest; `tickhouse versions list` tells which there are"
        )
    with _index_locked(root):
        known = [e["id"] for e in read_index(root)]
        if parent is not None and parent not in known:
            raise ExperimentError(
                f"parent was {parent!r}, expected one of {', '.join(known) or 'nothing yet'}; register it first"
            )
        number = 1 + max((int(i.removeprefix("exp")) for i in known), default=0)
        entry = {
            "id": experiment_id or f"exp{number:03d}",
            "version": version,
            "status": status,
            "param_set": manifest["param_set"],
            "params_digest": manifest["digests"]["params"],
            "build_digest": manifest["digests"]["build"],
        }
        more = {
            "parent": parent,
            "stage": stage,
            "tags": [*tags],
            "notes": notes,
            "metrics": {**metrics} if metrics else None,
        }
        entry |= {name: value for name, value in more.items() if value}
        before = {e["id"]: e for e in read_index(root)}.get(entry["id"]) or _blank(entry["id"])
        contracts.check({"experiments": [before | entry]}, "experiments", f"experiment {entry['id']}")
        return upsert(root, entry)


def record_running(root: Path, experiment: str, version: str, stages: Sequence[str], notes: str) -> None:
    """Say that ``experiment`` has begun. Raises ExperimentError when its id already belongs to another
    name.
    """
    experiment_id = parse_name(experiment)
    others = [p.name for p in experiments_dir(root).glob(f"{experiment_id}_*") if p.name != experiment]
    if others:
        raise ExperimentError(
            f"id {experiment_id} was taken by {others[0]}, expected a free one; number {experiment} anew"
        )
    before = {e["id"]: e for e in read_index(root)}.get(experiment_id)
    # A completed entry without its files is one that was removed by hand: what comes now stands in its place.
    lost = before is not None and before["status"] == "completed"
    entry = {
        "id": experiment_id,
        "version": version,
        "status": "running",
        "stage": ",".join(stages),
        "notes": notes,
    }
    upsert(root, entry, replace=lost)


def record_failed(root: Path, experiment: str, reason: str) -> None:
    """Say why a run ended without a result. A completed entry stays as it is: its result still stands."""
    experiment_id = parse_name(experiment)
    with contextlib.suppress(ExperimentIsFinal):
        upsert(root, {"id": experiment_id, "status": "failed", "notes": " ".join(reason.split())})


def record_completed(root: Path, stored: Stored) -> None:
    """Write the entry of a stored experiment from its files, also when a crash came between the two."""
    experiment_id = parse_name(stored.path.name)
    before = {e["id"]: e for e in read_index(root)}.get(experiment_id)
    if before is not None and before["status"] == "archived":
        return
    summary, training = stored.metrics, stored.config["inputs"]["training"]
    entry = {
        "id": experiment_id,
        "version": stored.config["inputs"]["silver_version"],
        "status": "completed",
        "param_set": stored.config["param_set"],
        "params_digest": stored.config["params_digest"],
        "build_digest": stored.config["build_digest"],
        "stage": ",".join(training["stages"]),
        "metrics": {
            "signal_count": summary["signal_count"],
            "feature_count": summary["feature_count"],
            "date_coverage": summary["sessions"],
            "null_rate_avg": summary["null_rate_avg"],
            **_head_metrics(summary, training["stages"][0]),
        },
        "model_path": summary["artifact"]["path"],
        "model_metrics": {
            f"{r['head']}_{r['stage']}": _head_metrics(summary, r["stage"], r["head"])
            for r in summary["results"]
        },
        "notes": stored.config["notes"],
    }
    # The files are the truth and the entry repeats them: one that differs was left behind by a crash.
    upsert(root, entry, replace=True)


def _head_metrics(summary: dict, stage: str, head: str = PRIMARY_HEAD) -> dict:
    """Pooled out-of-fold scores of one head, its base rate beside it; the interval is of the Brier skill
    against that, ``precision_at_k`` of the best 5 % of the rows.
    """
    found = [r for r in summary["results"] if r["stage"] == stage and r["head"] == head]
    keys = (
        "pr_auc",
        "roc_auc",
        "brier",
        "brier_skill",
        "ece",
        "precision_at_k",
        "n_folds",
        "ci_low",
        "ci_high",
        "base_rate_brier",
        "base_rate_roc_auc",
    )
    folds = sum(f["skipped"] is None for f in found[0]["folds"]) if found else 0
    if not found or found[0]["pooled"] is None or "brier" not in found[0]["pooled"]["model"]:
        return dict.fromkeys(keys) | {"n_folds": folds}  # nothing was trained, or the head is a number
    pooled = found[0]["pooled"]
    low, high = pooled["ci"]["brier_skill"]["base_rate"] if pooled["ci"] else (None, None)
    values = (
        pooled["model"]["pr_auc"],
        pooled["model"]["roc_auc"],
        pooled["model"]["brier"],
        pooled["brier_skill"]["base_rate"],
        pooled["calibration"]["raw"]["ece"],
        pooled["calibration"]["raw"]["precision_at_5"],
        folds,
        low,
        high,
        pooled["base_rate"]["brier"],
        pooled["base_rate"]["roc_auc"],
    )
    return dict(zip(keys, values, strict=True))


def what_changed(stored: Stored, inputs: dict) -> str:
    """One line for the refusal: which inputs differ from those of the completed experiment."""
    before = stored.config["inputs"]
    changed = sorted(k for k in inputs.keys() | before.keys() if inputs.get(k) != before.get(k))
    return (
        f"experiment {stored.config['inputs']['experiment']} is completed and {', '.join(changed)} changed "
        "since, expected an unchanged one; give the new run its own name with --experiment, or give the old "
        "result up with --replace"
    )


def silver_manifest(root: Path, version: str) -> dict:
    """``manifest.yaml`` of the silver version that the table was made from; empty when it was never
    published. Raises BrokenContract when it isn't what its schema says.
    """
    path = root / "lake" / "silver" / "features" / version / "manifest.yaml"
    return versions.read_manifest(path) if path.is_file() else {}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
