"""``ml/registry.json``: the only index of models that serve, and the only switch of a promotion.

It is replaced whole; what promotion places besides (production copies, the gold table and its pointer) follows from it,
so that a crash in between is mended by `ml.placing.finish`. Source: spec/market.md 14.8, architecture section 5.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
from filelock import FileLock

from lake import atomic, contracts
from lake.commits import now_utc
from ml import retrieval

CHAMPION, CHALLENGER = "champion", "challenger"
LOCK_TIMEOUT_S = 600


class RegistryError(ValueError):
    """The registry can't answer; the message says what was asked and what there is."""


class AlteredModel(RegistryError):
    """A model file's bytes are not those that were registered: it isn't unpickled."""


class OtherFeatures(RegistryError):
    """A model was trained on other columns than the caller has."""


@dataclass(frozen=True)
class Artifact:
    """A registered file: its place below the root, and its bytes' hash."""

    path: str
    sha256: str
    bytes: int

    @classmethod
    def of(cls, root: Path, file: Path) -> "Artifact":
        return cls(file.relative_to(root).as_posix(), atomic.sha256_file(file), file.stat().st_size)


def path(root: Path) -> Path:
    return root / "ml" / "registry.json"


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the one right to change what serves; a second promotion waits up to ten minutes, then Timeout."""
    (root / "ml").mkdir(parents=True, exist_ok=True)
    with FileLock(root / "ml" / "._lock-registry", timeout=LOCK_TIMEOUT_S, is_singleton=True):
        yield


def read(root: Path) -> dict[str, Any]:
    """The registry as it stands; an empty one where nothing was ever promoted. Raises RegistryError when it is torn."""
    if not path(root).is_file():
        return {
            "registry_version": 1,
            "updated_at": None,
            "models": [],
            "aliases": {CHAMPION: {}, CHALLENGER: {}},
            "dataset": None,
            "promotions": [],
            "history": [],
        }
    try:
        found = json.loads(path(root).read_text())
        contracts.check(found, "registry", "ml/registry.json")
    except (ValueError, OSError) as error:
        raise RegistryError(
            f"ml/registry.json can't be used: {' '.join(str(error).split())}; put back the one that was there"
        ) from error
    return found


def write(root: Path, content: dict[str, Any]) -> None:
    """Replace the registry: the instant at which a promotion or rollback happens. Call under `locked`."""
    content = {**content, "updated_at": now_utc()}
    contracts.check(content, "registry", "ml/registry.json")
    atomic.write_json(path(root), content)


def model(root: Path, model_id: str) -> dict[str, Any]:
    """The entry of a model. Raises RegistryError with the ids that there are."""
    entries = {m["model_id"]: m for m in read(root)["models"]}
    if model_id not in entries:
        raise RegistryError(
            f"model was {model_id!r}, expected one of {', '.join(sorted(entries)) or 'nothing yet'}; "
            "`tickhouse promote` registers them"
        )
    return entries[model_id]


def champion(root: Path, head_set: str) -> dict[str, Any]:
    """The entry that serves a head set, such as ``tradeable_2_touch``. Raises RegistryError when none does."""
    return _aliased(root, CHAMPION, head_set, "serves", "promote an experiment first")


def challenger(root: Path, head_set: str) -> dict[str, Any]:
    """The entry that challenges the champion of a head set. Raises RegistryError when none does."""
    return _aliased(root, CHALLENGER, head_set, "challenges for", "`tickhouse promote EXP --as challenger`")


def _aliased(root: Path, alias: str, head_set: str, does: str, hint: str) -> dict[str, Any]:
    models = read(root)["aliases"][alias]
    if head_set not in models:
        raise RegistryError(
            f"no model {does} {head_set!r}, expected one of {', '.join(sorted(models)) or 'nothing yet'}; {hint}"
        )
    return model(root, models[head_set])


def was_promoted(root: Path, experiment: str) -> bool:
    """Whether an experiment, by its full name, serves or served."""
    return any(p["experiment"] == experiment for p in read(root)["promotions"])


def load(root: Path, entry: dict[str, Any], feature_schema_hash: str | None = None) -> dict[str, Any]:
    """The model of a registry entry out of its production copy; one that doesn't serve, out of its experiment.

    The bytes are hashed before anything of them is unpickled. ``feature_schema_hash`` is the caller's, if it has one.
    Raises AlteredModel for a missing or changed file, OtherFeatures when the columns aren't those of training.
    """
    if feature_schema_hash is not None and feature_schema_hash != entry["feature_schema_hash"]:
        raise OtherFeatures(
            f"{entry['model_id']} was trained on features {entry['feature_schema_hash'][:12]}, the caller has "
            f"{feature_schema_hash[:12]}; build the version that it was promoted with, or promote one of this version"
        )
    if entry["status"] == "production":
        return unpickled(root, Artifact(**entry["production"]), entry["model_id"])
    whole = unpickled(root, Artifact(**entry["artifact"]), entry["model_id"])
    head, stage = entry["head"], entry["stage"]
    alone = {k: v for k, v in whole.items() if k != "models"}
    return {**alone, "head": head, "stage": stage, "model": whole["models"][stage][head]}


def unpickled(root: Path, artifact: Artifact, who: str) -> Any:
    """What a registered file holds, if its bytes are the registered ones. Raises AlteredModel."""
    file = root / artifact.path
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise AlteredModel(
            f"{artifact.path} of {who} is missing; `tickhouse rollback` places it again"
        ) from None
    if (actual := hashlib.sha256(data).hexdigest()) != artifact.sha256:
        raise AlteredModel(
            f"{artifact.path} of {who} had sha256 {actual}, expected {artifact.sha256}; nothing of it was read: "
            "`tickhouse rollback` places the registered one again"
        )
    return joblib.load(io.BytesIO(data))


def load_retrieval(root: Path) -> dict[str, retrieval.Index]:
    """The index of past events that serves, by stage. Raises AlteredModel, and RegistryError where nothing serves."""
    now = read(root)
    if now["dataset"] is None:
        raise RegistryError(
            "nothing was promoted yet, expected an index of past events; promote an experiment first"
        )
    number = now["dataset"]["dataset_version"]
    promotion = next(p for p in now["promotions"] if p["dataset_version"] == number)
    states = unpickled(root, Artifact(**promotion["retrieval"]), f"promotion {number}")
    return {stage: retrieval.Index.from_state(state) for stage, state in states.items()}
