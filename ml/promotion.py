"""Promotion and rollback: one experiment with the data it was trained on becomes what serves, or nothing changes.

Everything new is written beside what serves, then ``ml/registry.json`` is replaced, which is the whole switch;
production copies, the gold table, its manifest and pointer are placed from the registry afterwards. Whoever comes next
finishes what a crash left undone. Source: spec/market.md 13.1, 14.5, 14.8; architecture section 5.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from lake import atomic, audit, commits, contracts, params, released, runs
from lake import datasets as lake_datasets
from lake.commits import now_utc
from lake.digest import file_digest, table_digest
from lake.paths import stage_dir
from ml import challenge, components, datasets, experiments, gates, registry, retrieval, training
from ml.gates import Gate
from ml.registry import CHALLENGER, CHAMPION, Artifact

GOLD = "lake/gold/training"
VERSIONS = f"{GOLD}/versions/signals_production"
PRODUCTION = "ml/production/boosted_trees"
RETRIEVAL = "ml/production/retrieval_index.joblib"
PRIMARY_STAGE = "touch"
PRIMARY_HEADS = (experiments.PRIMARY_HEAD, "direction")
"""What a vector of three classes takes."""
MUST_BEAT = ("base_rate", "class_prior")
TOUCHES, POINTS = "silver/datasets/touches", "silver/datasets/observation_points"
OPTIONS = "silver/datasets/stg_options__trades"

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


# -- promote -----------------------------------------------------------------------------------------------------------


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
        if (served := _served(now, stored.path.name)) and served["artifact_sha256"] == _sha256(stored):
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
            judged, table, verdict = _judged(
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
            registry.write(root, _with_challenger(root, now, stored, verdict, notes))
            finish(root)
            runs.write_run(
                root, run_id, config=asked, counts=_counts(judged), status="ok", started_at=started_at
            )
            now = registry.read(root)
            return _of_challenger(_told(root, now, "challenges", judged), now)
        number = max((p["dataset_version"] for p in now["promotions"]), default=0) + 1
        on_step("writing the table")
        manifest = _write_version(root, number, table, stored, judged, now, notes)
        on_step("switching")
        registry.write(root, _with(root, now, number, stored, manifest, verdict, notes))
        on_step("placing")
        finish(root)
        runs.write_run(root, run_id, config=asked, counts=_counts(judged), status="ok", started_at=started_at)
        return _told(root, registry.read(root), "promoted", judged)


def _judged(
    root: Path,
    entry: dict,
    stored: experiments.Stored,
    now: dict,
    accept_no_skill: bool,
    min_events: int,
    contract: datasets.Contract | None,
    alias: str,
) -> tuple[list[Gate], pa.Table, challenge.Verdict | None]:
    version = stored.config["inputs"]["silver_version"]
    contract = contract or datasets.load_contract(version)
    table = _table(root, version)
    manifest = experiments.silver_manifest(root, version)
    build_digest = (manifest.get("digests") or {}).get("build") or ""
    audit_file = audit.audit_path(root, version, build_digest)
    partitions = lake_datasets.partitions(root, datasets.folder(version))
    beside = _with_geometry(root, table)
    facts = gates.Facts(
        version=version,
        table=beside,
        beside=frozenset(beside.column_names) - frozenset(table.column_names),
        contract=contract,
        state=released.state(root, version),
        failed_dates=[p.commit.date for p in partitions if p.status()["status"] != "ok"],
        build_digest=build_digest,
        audit=atomic.read_json(audit_file) if audit_file.is_file() else None,
        touch_band_points=_touch_band_points(table, stored),
        has_options=frozenset(p.commit.date for p in _partitions(root, OPTIONS) if p.commit.rows),
        experiment=stored.path.name,
        experiment_status=entry["status"],
        experiment_version=version,
        experiment_dataset_digest=stored.config["inputs"]["dataset_digest"],
        dataset_digest=datasets.digest(root, version),
        min_events=min_events,
    )
    judged = gates.judge(facts)
    if any(not gate.passed for gate in judged):
        # A table that isn't right can't say which model is better on it.
        return judged, table, None
    gate, verdict = _compared(datasets.check(table, contract), stored, root, now, accept_no_skill, alias)
    return [*judged, *gate], table, verdict


def _compared(
    table: datasets.TrainingTable,
    stored: experiments.Stored,
    root: Path,
    now: dict,
    accept_no_skill: bool,
    alias: str,
) -> tuple[list[Gate], challenge.Verdict | None]:
    """The experiment made once more, and against the champion's way of training, on the same rows and folds."""
    evaluation = training.evaluate(table, training.Config.from_dict(stored.config["inputs"]["training"]))
    told = ("results", "components")
    same = all(_plain(evaluation.metrics[k]) == _plain(stored.metrics.get(k)) for k in told)
    found = [
        Gate(
            "reproducible", "trained again", "" if same else "its metrics came out different; train it again"
        )
    ]
    if evaluation.metrics["insufficient_folds"]:
        found.append(
            Gate("folds", f"{evaluation.metrics['n_folds']}", "fewer than 5 folds; build more sessions")
        )
    champion_id = now["aliases"][CHAMPION].get(head_set(experiments.PRIMARY_HEAD, PRIMARY_STAGE))
    if champion_id is None:
        return [*found, _first(evaluation, accept_no_skill)], None
    mine = evaluation.trials.get(PRIMARY_STAGE)
    if mine is None:
        why = f"it has no {' and '.join(PRIMARY_HEADS)} at {PRIMARY_STAGE} to compare; train both"
        return [*found, Gate("not_worse_than_champion", "none", why)], None
    champion = next(m for m in now["models"] if m["model_id"] == champion_id)
    try:
        theirs = _champion_trial(root, champion, table)
        verdict = components.paired(theirs, mine)
    except (components.OtherRows, datasets.DatasetError) as error:
        return [*found, Gate("not_worse_than_champion", "none", str(error))], None
    if alias == CHALLENGER:  # to be watched beside the champion it needn't be better yet
        return [*found, Gate("compared_with_champion", verdict.told(), "")], verdict
    why = "" if verdict.holds else f"worse than {champion_id} on the same rows"
    return [*found, Gate("not_worse_than_champion", verdict.told(), why)], verdict


def _first(evaluation: training.Evaluation, accept_no_skill: bool) -> Gate:
    """Without a champion there are the base rate and the prior to beat."""
    pooled = next(
        (
            r["pooled"]
            for r in evaluation.metrics["results"]
            if (r["stage"], r["head"]) == (PRIMARY_STAGE, experiments.PRIMARY_HEAD)
        ),
        None,
    )
    if pooled is None:
        return Gate("skill", "none", f"no {experiments.PRIMARY_HEAD} at {PRIMARY_STAGE}; train it")
    # Of small buckets the base rate is noisy, and a model that knows nothing but the prior beats it.
    against = {name: (pooled["ci"] or {}).get("brier_skill", {}).get(name) for name in MUST_BEAT}
    enough = evaluation.metrics["test_sessions"] >= training.MIN_TEST_SESSIONS_FOR_A_CLAIM
    shown = ", ".join(f"{n} {'no interval' if i is None else f'{i[0]:+.4f}'}" for n, i in against.items())
    if enough and all(i is not None and i[0] is not None and i[0] > 0 for i in against.values()):
        return Gate("skill", shown, "")
    if accept_no_skill:
        return Gate("skill", f"{shown}: not proven, accepted", "")
    return Gate(
        "skill",
        shown,
        "a first promotion needs lower bounds above 0 of the Brier skill over at least "
        f"{training.MIN_TEST_SESSIONS_FOR_A_CLAIM} test sessions; --accept-no-skill records that there is none",
    )


def _champion_trial(root: Path, champion: dict, table: datasets.TrainingTable) -> components.Trial | None:
    """What the champion's way of training says of the same rows, of its own features.

    They stand in ``table`` where its version has them all, else in the table of the champion's version.
    """
    config = replace(
        training.Config.from_dict(champion["params"]),
        heads=PRIMARY_HEADS,
        stages=(PRIMARY_STAGE,),
        features=tuple(champion["features"]),
    )
    if not set(champion["features"]) <= {c.name for c in datasets.feature_columns(table.contract)}:
        version = champion["silver_version"]
        table = datasets.check(_table(root, version), datasets.load_contract(version))
    found = components.trial(table, config, PRIMARY_STAGE)
    if found is None:
        raise components.OtherRows(
            f"{champion['model_id']} can't be fitted on these rows; build more sessions"
        )
    return found


def _plain(value: object) -> object:
    """As it comes back from JSON."""
    return json.loads(json.dumps(value))


def _table(root: Path, version: str) -> pa.Table:
    """The committed training table in key order: what is judged, and what is published."""
    table = lake_datasets.read(root, datasets.folder(version))
    keys = [(name, "ascending") for name in ("session_date", "asof_ns", "observation_id")]
    return table.sort_by(keys).combine_chunks()


def _with_geometry(root: Path, table: pa.Table) -> pa.Table:
    """Beside the table's own columns the prices that gold doesn't keep, where silver has them."""
    sets = pc.unique(table["params_digest"]).to_pylist()
    if len(sets) != 1:
        return table
    ticks = [
        ("observation_id", POINTS, ("level_price", "spot_tick")),
        ("event_id", TOUCHES, ("touch_tick", "level_tick")),
    ]
    for key, folder, names in ticks:
        wanted = [n for n in names if n not in table.column_names]
        if wanted and _partitions(root, folder, sets[0]):
            beside = lake_datasets.read(root, folder, [key, *wanted], params_digest=sets[0])
            place = pc.index_in(table[key], value_set=beside[key].combine_chunks())
            for name in wanted:
                table = table.append_column(name, beside[name].combine_chunks().take(place.combine_chunks()))
    if "spot_tick" in table.column_names and "spot" not in table.column_names:
        spot = pc.multiply(table["spot_tick"].cast(pa.float64()), gates.TICK_POINTS)
        table = table.append_column("spot", spot)
    return table


def _partitions(root: Path, folder: str, params_digest: str | None = None) -> list[commits.Partition]:
    return lake_datasets.partitions(root, folder, params_digest)


def _touch_band_points(table: pa.Table, stored: experiments.Stored) -> float:
    """The band in points at the widest ratio of the table: TOUCH_BAND is in SPY dollars."""
    name = stored.config.get("param_set") or "default"
    band = params.load(name).values["TOUCH_BAND"]
    ratio = pc.max(table["es_spy_ratio"]).as_py() if "es_spy_ratio" in table.column_names else 10.5
    ticks = np.floor(band * (ratio or 10.5) / gates.TICK_POINTS + 0.5)
    return float(ticks * gates.TICK_POINTS)


# -- the table ---------------------------------------------------------------------------------------------------------


def _write_version(
    root: Path,
    number: int,
    table: pa.Table,
    stored: experiments.Stored,
    judged: Sequence[Gate],
    now: dict,
    notes: str,
) -> dict[str, Any]:
    """``versions/signals_production/v=<n>``, whole, checked by reading it again; returns its manifest.

    What a crash left there is of no promotion, and goes.
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


# -- the registry ------------------------------------------------------------------------------------------------------


def head_set(head: str, stage: str) -> str:
    """Name of what a champion serves: one head at one stage."""
    return f"{head}_{stage}"


def _with(
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
    index = _retrieval_index(
        root, number, stored.config["inputs"]["training"]["stages"], stored.config["inputs"]["features"]
    )
    promotion = {
        **dataset,
        "retrieval": {"path": RETRIEVAL, "sha256": hashlib.sha256(index).hexdigest(), "bytes": len(index)},
        "stages": stored.config["inputs"]["training"]["stages"],
        "features": stored.config["inputs"]["features"],
        "experiment": stored.path.name,
        "artifact_sha256": _sha256(stored),
        "champions": champions,
        "at": at,
        "notes": notes,
    }
    changed = {**now, "models": entries, "promotions": [*now["promotions"], promotion]}
    return _switched(changed, promotion, at, f"promote {experiment_id}" + (f": {notes}" if notes else ""))


def _with_challenger(
    root: Path, now: dict, stored: experiments.Stored, verdict: challenge.Verdict | None, notes: str
) -> dict[str, Any]:
    """The registry with the experiment as challenger; what serves, and what a rollback goes back to, stay."""
    at = now_utc()
    entries, challengers = _entries(root, now, stored, None, _comparison(now, verdict, at), at)
    reason = f"challenge by {experiments.parse_name(stored.path.name)}" + (f": {notes}" if notes else "")
    return _moved({**now, "models": entries}, CHALLENGER, challengers, at, reason)


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
    for result in stored.metrics["results"]:
        if result["skipped"] or result["final_skipped"]:
            continue
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
                entry |= {k: before[k] for k in ("dataset_version", "dataset_digest")}
        entries[entry["model_id"]] = entry
        mine[head_set(result["head"], result["stage"])] = entry["model_id"]
    if not mine:
        raise experiments.ExperimentError(f"{name} has no final model, expected at least one head; train it")
    return [entries[m] for m in sorted(entries)], mine


def _comparison(now: dict, verdict: challenge.Verdict | None, at: str) -> dict[str, Any] | None:
    """The verdict as a registry keeps it: against whom, and when."""
    if verdict is None:
        return None
    champion_id = now["aliases"][CHAMPION][head_set(experiments.PRIMARY_HEAD, PRIMARY_STAGE)]
    return {"against": champion_id, "at": at, **verdict.state()}


def _switched(content: dict, promotion: dict, at: str, reason: str) -> dict[str, Any]:
    """``content`` with the champions and the dataset of ``promotion``, statuses and history following.

    What serves challenges nobody any more.
    """
    after = promotion["champions"]
    serving = {m["experiment_id"] for m in content["models"] if m["model_id"] in after.values()}
    of = {m["model_id"]: m["experiment_id"] for m in content["models"]}
    left = {k: v for k, v in content["aliases"][CHALLENGER].items() if of[v] not in serving}
    content = _moved(content, CHALLENGER, left, at, reason)
    dataset = {k: promotion[k] for k in ("dataset_version", "content_digest", "manifest_sha256")}
    return {**_moved(content, CHAMPION, after, at, reason), "dataset": dataset}


def _moved(content: dict, alias: str, after: dict[str, str], at: str, reason: str) -> dict[str, Any]:
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
    name = head_set(result["head"], result["stage"])
    place = f"{PRODUCTION}/{name}_{inputs['training']['ablation']}.joblib"
    data = _production_copy(root, stored.path.name, result["head"], result["stage"])
    number, digest = published or (None, inputs["dataset_digest"])
    chosen = next((c for c in stored.metrics["components"] if c["stage"] == result["stage"]), None)
    pooled = result["pooled"]
    return {
        "model_id": f"{experiments.parse_name(stored.path.name)}_{name}",
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
        "production": {"path": place, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
        "git_commit": runs.git_commit(),
        "created_at": at,
        "status": "candidate",
        "comparison": comparison,
    }


def _production_copy(root: Path, experiment: str, head: str, stage: str) -> bytes:
    """Bytes of one head's file: its model with all that predicting needs, the same at every call."""
    model = experiments.load_model(root, experiment)
    alone = {k: v for k, v in model.items() if k != "models"}
    buffer = io.BytesIO()
    joblib.dump(
        experiments.canonical({**alone, "head": head, "stage": stage, "model": model["models"][stage][head]}),
        buffer,
    )
    return buffer.getvalue()


def _retrieval_index(root: Path, number: int, stages: Sequence[str], features: Sequence[str]) -> bytes:
    """Bytes of the index of past events, by stage, out of a published table; the same at every call."""
    table = pq.ParquetFile(root / VERSIONS / f"v={number}" / "data.parquet").read()
    names = [n for n in features if n not in datasets.CATEGORICAL_COLUMNS]
    states = {
        stage: retrieval.Index.build(table.filter(pc.equal(table["stage"], stage)), names).state()
        for stage in stages
    }
    buffer = io.BytesIO()
    joblib.dump(experiments.canonical(states), buffer)
    return buffer.getvalue()


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
        and m["artifact"]["sha256"] == _sha256(stored)
        and (m["comparison"] or {}).get("against") == champion_id
        for m in mine
    )


def _of_challenger(told: Promoted, now: dict) -> Promoted:
    """``told`` with the challenger's name and models in place of the champion's."""
    models = now["aliases"][CHALLENGER].values()
    name = next(m["experiment_id"] for m in now["models"] if m["model_id"] in models)
    return replace(told, experiment=name, models=sorted(models))


def _sha256(stored: experiments.Stored) -> str:
    return stored.metrics["artifact"]["sha256"]


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


# -- rollback ----------------------------------------------------------------------------------------------------------


def rollback(root: Path, dataset_version: int | None = None, *, reason: str = "") -> Promoted:
    """Serve an earlier promotion again, by default the one before this, byte for byte; also mends what was altered.

    Raises NothingToRollBack when there is no such promotion.
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
            registry.write(root, _switched(now, promotion, now_utc(), why))
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
        registry.write(root, _moved(now, CHALLENGER, {}, now_utc(), why))
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


# -- what follows from the registry ------------------------------------------------------------------------------------


def finish(root: Path) -> None:
    """Place what the registry says that serves: production copies, then the table, its manifest, and the pointer last.

    Does nothing where all of it stands; run after every switch, and before the next. Call under `registry.locked`.
    """
    now = registry.read(root)
    if now["dataset"] is None:
        return
    serving = {m["model_id"]: m for m in now["models"]}
    kept = set()
    for model_id in now["aliases"][CHAMPION].values():
        entry = serving[model_id]
        artifact = Artifact(**entry["production"])
        kept.add(root / artifact.path)
        if not _holds(root / artifact.path, artifact.sha256):
            data = _production_copy(root, entry["experiment_id"], entry["head"], entry["stage"])
            if hashlib.sha256(data).hexdigest() != artifact.sha256:
                raise registry.AlteredModel(
                    f"{entry['experiment_id']}/model.joblib doesn't give the registered file of {model_id} any more; "
                    "put the experiment back as it was"
                )
            atomic.write_bytes(root / artifact.path, data)
    half_written = [
        p for folder in (PRODUCTION, GOLD, "ml/production") for p in (root / folder).glob("._tmp-*")
    ]
    for stray in [*half_written, *set((root / PRODUCTION).glob("*.joblib")) - kept]:
        stray.unlink()
    number = now["dataset"]["dataset_version"]
    promotion = next(p for p in now["promotions"] if p["dataset_version"] == number)
    if not _holds(root / RETRIEVAL, promotion["retrieval"]["sha256"]):
        index = _retrieval_index(root, number, promotion["stages"], promotion["features"])
        if hashlib.sha256(index).hexdigest() != promotion["retrieval"]["sha256"]:
            raise registry.AlteredModel(
                f"{VERSIONS}/v={number}/data.parquet doesn't give the registered index any more; put it back as it was"
            )
        atomic.write_bytes(root / RETRIEVAL, index)
    version = root / VERSIONS / f"v={number}"
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
