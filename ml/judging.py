"""Every gate on an experiment and its table, and the experiment made once more against the champion.

Reads only. Source: spec/market.md 13.1, 14.5.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake import atomic, audit, commits, params, released
from lake import datasets as lake_datasets
from ml import challenge, components, datasets, experiments, gates, training
from ml.gates import Gate
from ml.registration import PRIMARY_STAGE, head_set
from ml.registry import CHALLENGER, CHAMPION

PRIMARY_HEADS = (experiments.PRIMARY_HEAD, "direction")
"""What a vector of three classes takes."""
MUST_BEAT = ("base_rate", "class_prior")
TOUCHES, POINTS = "silver/datasets/touches", "silver/datasets/observation_points"
OPTIONS = "silver/datasets/stg_options__trades"


def judge(
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
