"""Promotion and rollback: one experiment with the data it was trained on becomes what serves, or nothing changes.

Everything new is written beside what serves, then ``ml/registry.json`` is replaced, which is the whole switch;
production copies, the gold table, its manifest and pointer are placed from the registry afterwards. Whoever comes next
finishes what a crash left undone. Source: spec/market.md 13.1, 14.5, 14.8; architecture section 5.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from lake import runs
from lake.commits import now_utc
from ml import datasets, experiments, gates, judging, registry
from ml.gates import Gate
from ml.placing import VERSIONS, finish, require_whole, write_version
from ml.registration import (
    PRIMARY_STAGE,
    artifact_sha256,
    head_set,
    moved,
    production_files,
    switched,
    with_challenger,
    with_champion,
)
from ml.registry import CHALLENGER, CHAMPION

OnStep = Callable[[str], None]


class PromotionRefused(ValueError):
    """A gate failed. ``gates`` are all verdicts; the message names every failed one with its reason."""

    def __init__(self, experiment: str, judged: Sequence[Gate]) -> None:
        self.gates = list(judged)
        told = "; ".join(f"{g.name}: {g.why}" for g in judged if not g.passed)
        super().__init__(f"{experiment} was not promoted: {told}")


class NothingToChallenge(ValueError):
    """A challenger needs a champion, and can't be the champion itself."""


class NothingToRollBack(ValueError):
    """There is no earlier promotion, or none of that number."""


@dataclass(frozen=True)
class Promoted:
    """What serves now. ``state`` is ``promoted``, ``rolled_back`` or ``unchanged``; of a challenger, which serves
    nothing, ``challenges``, ``withdrawn`` or ``unchanged``, with the table of the champion.
    """

    state: str
    experiment: str
    dataset_version: int
    content_digest: str
    rows: int
    models: list[str]
    gates: list[Gate]

    def flat(self) -> dict[str, object]:
        return {
            "state": self.state,
            "experiment": self.experiment,
            "dataset_version": self.dataset_version,
            "rows": self.rows,
            "content_digest": self.content_digest,
            "models": " ".join(self.models),
        }


def promote(
    root: Path,
    experiment: str,
    *,
    alias: str = CHAMPION,
    accept_no_skill: bool = False,
    min_events: int = gates.MIN_EVENTS,
    notes: str = "",
    contract: datasets.Contract | None = None,
    on_step: OnStep = lambda step: None,
) -> Promoted:
    """Make ``experiment`` and its training table what serves, if every gate passes.

    As ``challenger`` it is judged by the same gates and compared with the champion, and only its alias moves: what
    serves stays. ``accept_no_skill`` lets a first promotion pass whose lower bound of skill is not above 0; that is
    recorded. Promoting what has the alias already changes nothing. Raises PromotionRefused, NothingToChallenge, and
    ExperimentError for an unknown name.
    """
    started_at, run_id = now_utc(), runs.new_run_id("promote")
    asked = {
        "command": "promote",
        "experiment": experiment,
        "alias": alias,
        "accept_no_skill": accept_no_skill,
        "notes": notes,
    }
    with registry.locked(root):
        finish(root)
        entry = experiments.entry_of(root, experiment)
        stored = experiments.stored_of(root, entry["id"])
        if stored is None:
            raise experiments.ExperimentError(
                f"experiment {experiment} has no whole set of files, expected {', '.join(experiments.FILES)}; train it"
            )
        now = registry.read(root)
        if (served := _served(now, stored.path.name)) and served["artifact_sha256"] == artifact_sha256(
            stored
        ):
            if alias == CHALLENGER:
                raise NothingToChallenge(
                    f"{stored.path.name} serves already, expected another to challenge it"
                )
            return _told(root, now, "unchanged", [])
        if alias == CHALLENGER and now["dataset"] is None:
            raise NothingToChallenge(
                f"nothing serves yet, expected a champion for {stored.path.name} to challenge; promote it itself"
            )
        if alias == CHALLENGER and _challenges(now, stored):
            return _of_challenger(_told(root, now, "unchanged", []), now)
        on_step("judging")
        try:
            judged, table, verdict = judging.judge(
                root, entry, stored, now, accept_no_skill, min_events, contract, alias
            )
        except Exception:
            runs.write_run(root, run_id, config=asked, counts={}, status="failed", started_at=started_at)
            raise
        if any(not gate.passed for gate in judged):
            runs.write_run(
                root, run_id, config=asked, counts=_counts(judged), status="failed", started_at=started_at
            )
            raise PromotionRefused(experiment, judged)
        if alias == CHALLENGER:
            on_step("switching")
            registry.write(root, with_challenger(root, now, stored, verdict, notes))
            finish(root)
            runs.write_run(
                root, run_id, config=asked, counts=_counts(judged), status="ok", started_at=started_at
            )
            now = registry.read(root)
            return _of_challenger(_told(root, now, "challenges", judged), now)
        number = max((p["dataset_version"] for p in now["promotions"]), default=0) + 1
        on_step("writing the table")
        files = production_files(root, now, stored)
        manifest = write_version(root, number, table, stored, judged, now, notes, files)
        on_step("switching")
        registry.write(root, with_champion(root, now, number, stored, manifest, verdict, notes))
        on_step("placing")
        finish(root)
        runs.write_run(root, run_id, config=asked, counts=_counts(judged), status="ok", started_at=started_at)
        return _told(root, registry.read(root), "promoted", judged)


def rollback(root: Path, dataset_version: int | None = None, *, reason: str = "") -> Promoted:
    """Serve an earlier promotion again, by default the one before this, byte for byte; also mends what was altered.

    Raises NothingToRollBack when there is no such promotion, AlteredModel when its files aren't what they were.
    """
    started_at, run_id = now_utc(), runs.new_run_id("rollback")
    with registry.locked(root):
        now = registry.read(root)
        serving = (now["dataset"] or {}).get("dataset_version")
        numbers = [p["dataset_version"] for p in now["promotions"]]
        wanted = dataset_version if dataset_version is not None else _before(root, now)
        if wanted not in numbers:
            raise NothingToRollBack(
                f"rollback was asked to version {wanted}, expected one of {', '.join(map(str, numbers)) or 'none yet'}"
                if wanted is not None
                else "there is no earlier promotion to roll back to; promote an experiment first"
            )
        if wanted != serving:
            promotion = next(p for p in now["promotions"] if p["dataset_version"] == wanted)
            why = f"rollback to {wanted}" + (f": {reason}" if reason else "")
            after = switched(now, promotion, now_utc(), why)
            require_whole(root, after)
            registry.write(root, after)
        finish(root)
        asked = {"command": "rollback", "to": wanted, "reason": reason}
        runs.write_run(root, run_id, config=asked, counts={}, status="ok", started_at=started_at)
        return _told(root, registry.read(root), "rolled_back" if wanted != serving else "unchanged", [])


def withdraw(root: Path, *, reason: str = "") -> Promoted:
    """Take the challenger back; what serves stays. Raises NothingToRollBack without one."""
    started_at, run_id = now_utc(), runs.new_run_id("rollback")
    with registry.locked(root):
        finish(root)
        now = registry.read(root)
        if not now["aliases"][CHALLENGER]:
            raise NothingToRollBack(
                "there is no challenger to withdraw; `tickhouse promote EXP --as challenger` makes one"
            )
        why = "withdrawn" + (f": {reason}" if reason else "")
        registry.write(root, moved(now, CHALLENGER, {}, now_utc(), why))
        asked = {"command": "rollback", "alias": CHALLENGER, "reason": reason}
        runs.write_run(root, run_id, config=asked, counts={}, status="ok", started_at=started_at)
        return _of_challenger(_told(root, now, "withdrawn", []), now)


def _before(root: Path, now: dict) -> int | None:
    """The version that served before this one: what this one's manifest says."""
    if now["dataset"] is None:
        return None
    number = now["dataset"]["dataset_version"]
    manifest = yaml.safe_load((root / VERSIONS / f"v={number}" / "manifest.yaml").read_text())
    return manifest["previous_version"]


def _served(now: dict, experiment: str) -> dict | None:
    """The promotion that serves, if it is of this experiment."""
    number = (now["dataset"] or {}).get("dataset_version")
    found = [p for p in now["promotions"] if p["dataset_version"] == number and p["experiment"] == experiment]
    return found[0] if found else None


def _challenges(now: dict, stored: experiments.Stored) -> bool:
    """Whether the experiment, as it is, challenges the champion that serves now."""
    mine = [m for m in now["models"] if m["model_id"] in now["aliases"][CHALLENGER].values()]
    champion_id = now["aliases"][CHAMPION].get(head_set(experiments.PRIMARY_HEAD, PRIMARY_STAGE))
    return bool(mine) and all(
        m["experiment_id"] == stored.path.name
        and m["artifact"]["sha256"] == artifact_sha256(stored)
        and (m["comparison"] or {}).get("against") == champion_id
        for m in mine
    )


def _of_challenger(told: Promoted, now: dict) -> Promoted:
    """``told`` with the challenger's name and models in place of the champion's."""
    models = now["aliases"][CHALLENGER].values()
    name = next(m["experiment_id"] for m in now["models"] if m["model_id"] in models)
    return replace(told, experiment=name, models=sorted(models))


def _counts(judged: Sequence[Gate]) -> dict[str, int]:
    return {"gates": len(judged), "failed": sum(not g.passed for g in judged)}


def _told(root: Path, now: dict, state: str, judged: list[Gate]) -> Promoted:
    number = now["dataset"]["dataset_version"]
    promotion = next(p for p in now["promotions"] if p["dataset_version"] == number)
    return Promoted(
        state=state,
        experiment=promotion["experiment"],
        dataset_version=number,
        content_digest=promotion["content_digest"],
        rows=pq.read_metadata(root / VERSIONS / f"v={number}" / "data.parquet").num_rows,
        models=sorted(promotion["champions"].values()),
        gates=judged,
    )
