"""What a table and an experiment have to pass before they serve: every gate of spec/market.md 13.1 with its figure.

A gate is judged by itself, also where another has failed: who is refused learns all the reasons at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import datasets
from ml.datasets import Contract, LeakError

MIN_EVENTS = 1_000
TOUCH_BAND_TOLERANCE = 1e-9
MIN_SIGN_AGREEMENT = 0.9
MIN_KNOWN = {"tape_velocity": 0.9, "gamma_exposure": 0.8, "barrier_delta_liq": 0.8}
BOUNDED = ("tape_imbalance", "liquidity_pressure", "tape_pressure", "gamma_pressure")
VARIANCE_LEAST_ROWS = 1_000
OUTCOMES = ("BREAK", "BOUNCE", "CHOP")
TICK_POINTS = 0.25


@dataclass(frozen=True)
class Gate:
    """One verdict. ``value`` is what was measured, ``why`` what is wrong and empty when it passed."""

    name: str
    value: str
    why: str

    @property
    def passed(self) -> bool:
        return not self.why


@dataclass(frozen=True)
class Facts:
    """What is judged. ``table``: the candidate rows, all stages, in key order; ``beside`` names its columns that silver
    has and gold doesn't keep: geometry is judged by them, the schema without them.

    ``state`` is that of the version; ``failed_dates`` those whose data tests didn't pass; ``audit`` the record of the
    perturb-the-future audit at the version's present build digest, None without one; ``touch_band_ticks`` the version's
    own parameter; ``has_options`` the dates with option prints in bronze.
    """

    version: str
    table: pa.Table
    contract: Contract
    state: str
    failed_dates: list[str]
    build_digest: str
    audit: dict | None
    touch_band_points: float
    has_options: frozenset[str]
    experiment: str
    experiment_status: str
    experiment_version: str
    experiment_dataset_digest: str
    dataset_digest: str
    min_events: int = MIN_EVENTS
    beside: frozenset[str] = frozenset()


def judge(facts: Facts) -> list[Gate]:
    """Every gate but the comparison of models, in the order of the specification."""
    return [gate for judges in _JUDGES for gate in judges(facts)]


def _released(f: Facts) -> Iterator[Gate]:
    yield Gate(
        "released",
        f.state,
        ""
        if f.state == "released"
        else f"{f.version} is a {f.state}; release it with `tickhouse versions release`",
    )
    yield Gate(
        "dates_ok",
        f"{len(f.failed_dates)} failed",
        f"{len(f.failed_dates)} dates are not ok, the first is {f.failed_dates[0]}; run `dbt build`"
        if f.failed_dates
        else "",
    )
    yield Gate("schema", f"{f.table.num_columns - len(f.beside)} columns", _schema(f))


def _schema(f: Facts) -> str:
    expected = [c.name for c in f.contract.columns]
    found = [n for n in f.table.column_names if n not in f.beside | {"date"}]
    wanted = expected if "session_date" in expected else ["session_date", *expected]
    if sorted(found) != sorted(wanted):
        lacking, odd = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
        return f"columns lack {', '.join(lacking) or 'none'} and have {', '.join(odd) or 'none'} too many"
    for column in f.contract.columns:
        values = f.table[column.name]
        if not column.nullable and values.null_count:
            return f"{column.name} was NULL in {values.null_count} rows, expected none"
        if not _is_of(values.type, column.dtype):
            return f"{column.name} was {values.type}, expected {column.dtype}"
        if column.domain is not None:
            odd = set(values.cast(pa.string()).unique().to_pylist()) - {None, *map(str, column.domain)}
            if odd:
                return (
                    f"{column.name} held {min(odd)!r}, expected one of {', '.join(map(str, column.domain))}"
                )
    return ""


_KINDS: dict[str, Callable[[pa.DataType], bool]] = {
    "VARCHAR": lambda t: pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_dictionary(t),
    "STR": lambda t: pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_dictionary(t),
    "BOOLEAN": pa.types.is_boolean,
    "BOOL": pa.types.is_boolean,
    "DOUBLE": pa.types.is_floating,
    "F64": pa.types.is_floating,
    "DATE": pa.types.is_date,
}


def _is_of(found: pa.DataType, declared: str) -> bool:
    """A declared integer asks for an integer; a type that isn't known here asks for nothing."""
    declared = declared.upper()
    if "INT" in declared or declared in {"I8", "I16", "I32", "I64"}:
        return pa.types.is_integer(found)
    return _KINDS.get(declared, lambda _: True)(found)


def _keys(f: Facts) -> Iterator[Gate]:
    rows = f.table.num_rows
    repeated = rows - pc.count_distinct(f.table["observation_id"]).as_py()
    yield Gate(
        "observation_unique", f"{rows} rows", f"{repeated} observation_id came again" if repeated else ""
    )
    pairs = f.table.select(["event_id", "stage"]).group_by(["event_id", "stage"]).aggregate([]).num_rows
    yield Gate(
        "event_stage_unique", f"{pairs} pairs", f"{rows - pairs} rows repeat one" if pairs != rows else ""
    )


def _looks_ahead(f: Facts) -> Iterator[Gate]:
    t = f.table
    ahead = _count(pc.greater_equal(t["max_input_ts_ns"], t["asof_ns"]))
    yield Gate(
        "inputs_before_asof", f"{ahead} rows ahead", f"{ahead} rows used a later input" if ahead else ""
    )
    early = _count(pc.less(t["label_start_ns"], t["asof_ns"]))
    yield Gate(
        "label_after_asof", f"{early} rows early", f"{early} labels begin before asof" if early else ""
    )
    horizon_s = np.array([_horizon_s(s) for s in t["stage"].to_pylist()])
    late = int((t["asof_ns"].to_numpy() > t["ts_ns"].to_numpy() + horizon_s * 1_000_000_000).sum())
    yield Gate(
        "asof_within_stage", f"{late} rows late", f"{late} rows look later than their stage" if late else ""
    )
    try:
        datasets.refuse_copied_labels(t, f.contract)
        copied = ""
    except LeakError as error:
        copied = str(error)
    yield Gate("no_copied_label", "compared with every label", copied)


def _horizon_s(stage: str) -> int:
    return 0 if stage == "touch" else int(stage.rpartition("_")[2])


def _geometry(f: Facts) -> Iterator[Gate]:
    t = f.table
    names = set(t.column_names)
    if {"level_price", "spot", "distance"} <= names:
        expected = np.abs(_floats(t, "level_price") - _floats(t, "spot"))
        wrong = int((_floats(t, "distance") != expected).sum())
        yield Gate(
            "distance", f"{wrong} rows differ", f"{wrong} distances aren't |level − spot|" if wrong else ""
        )
    if {"touch_tick", "level_tick"} <= names:
        away = np.abs(_floats(t, "touch_tick") - _floats(t, "level_tick")) * TICK_POINTS
        outside = int((away > f.touch_band_points + TOUCH_BAND_TOLERANCE).sum())
        yield Gate(
            "touch_band", f"{outside} rows outside", f"{outside} touches lie off the band" if outside else ""
        )
    if {"distance_signed", "direction"} <= names:
        touch = t.filter(pc.equal(t["stage"], "touch"))
        signed = _floats(touch, "distance_signed")
        up = np.array([d == "UP" for d in touch["direction"].to_pylist()])
        decided = (signed != 0) & ~np.isnan(signed)
        share = float(((signed > 0) == up)[decided].mean()) if decided.any() else 1.0
        low = share < MIN_SIGN_AGREEMENT
        yield Gate("sign_agrees", f"{share:.3f}", f"expected at least {MIN_SIGN_AGREEMENT}" if low else "")


def _labels(f: Facts) -> Iterator[Gate]:
    t = f.table
    for k in (1, 2):
        reached = pc.is_valid(t[f"time_to_threshold_{k}"])
        wrong = _count(pc.not_equal(pc.equal(t[f"tradeable_{k}"], 1), reached))
        yield Gate(
            f"tradeable_{k}",
            f"{wrong} rows disagree",
            f"{wrong} rows against time_to_threshold_{k}" if wrong else "",
        )
    odd = _count(pc.invert(pc.is_in(t["outcome"], value_set=pa.array(OUTCOMES))))
    yield Gate(
        "outcome_domain", f"{odd} others", f"{odd} outcomes are none of {', '.join(OUTCOMES)}" if odd else ""
    )
    missing = [
        f"{outcome} at {stage}"
        for stage in sorted(set(t["stage"].to_pylist()))
        for outcome in OUTCOMES
        if not _count(pc.and_(pc.equal(t["stage"], stage), pc.equal(t["outcome"], outcome)))
    ]
    yield Gate("every_class", f"{len(missing)} missing", f"no row of {', '.join(missing)}" if missing else "")


def _values(f: Facts) -> Iterator[Gate]:
    t = f.table
    for name in (n for n in BOUNDED if n in t.column_names):
        bound = pc.min_max(t[name]).as_py()
        low, high = bound["min"], bound["max"]
        out = low is not None and (low < -1 or high > 1)
        shown = "no value" if low is None else f"{low:.3f} to {high:.3f}"
        yield Gate(f"bounded_{name}", shown, "expected within −1 to 1" if out else "")
    # Options are known where bronze has any. The book shows ten levels: at a touch the level is among them, minutes
    # later the price may have left it, and NULL is then the answer.
    counted_rows = {
        "gamma_exposure": np.isin(datasets.session_dates(t), sorted(f.has_options)),
        "barrier_delta_liq": pc.equal(t["stage"], "touch").to_numpy(zero_copy_only=False),
    }
    for name, least in MIN_KNOWN.items():
        if name not in t.column_names:
            continue
        valid = pc.is_valid(t[name]).to_numpy(zero_copy_only=False)
        counted = counted_rows.get(name, np.ones(len(valid), bool))
        share = float(valid[counted].mean()) if counted.any() else 1.0
        yield Gate(f"known_{name}", f"{share:.3f}", f"expected at least {least}" if share < least else "")
    silent = []
    if t.num_rows >= VARIANCE_LEAST_ROWS:
        inputs = datasets.feature_columns(f.contract)
        silent = [c.name for c in inputs if pc.count_distinct(t[c.name], mode="all").as_py() == 1]
    yield Gate(
        "variance",
        f"{len(silent)} constant",
        f"{', '.join(silent[:5])} never vary; leave them out" if silent else "",
    )


def _enough(f: Facts) -> Iterator[Gate]:
    events = pc.count_distinct(f.table["event_id"]).as_py()
    yield Gate(
        "events",
        f"{events}",
        f"expected at least {f.min_events}; build more sessions" if events < f.min_events else "",
    )


def _audited(f: Facts) -> Iterator[Gate]:
    if f.audit is None:
        why = f"no audit at build digest {f.build_digest[:12]}; run `tickhouse verify {f.version} --perturb`"
    else:
        why = "" if f.audit["passed"] else f"{f.audit['told']}; such a feature sees its own future"
    yield Gate("perturb_the_future", "none" if f.audit is None else f.audit["told"], why)


def _experiment(f: Facts) -> Iterator[Gate]:
    faults = []
    if f.experiment_status != "completed":
        faults.append(f"{f.experiment} is {f.experiment_status}, expected completed")
    if f.experiment_version != f.version:
        faults.append(f"{f.experiment} is of {f.experiment_version}, expected {f.version}")
    yield Gate("experiment", f.experiment_status, "; ".join(faults))
    stale = f.experiment_dataset_digest != f.dataset_digest
    yield Gate(
        "same_data",
        f.dataset_digest[:12],
        f"{f.experiment} was trained on {f.experiment_dataset_digest[:12]}; train it again on what is built now"
        if stale
        else "",
    )


def _count(mask: pa.ChunkedArray) -> int:
    """Rows where ``mask`` holds; NULL counts as holding: what can't be compared isn't right."""
    return int(pc.sum(pc.fill_null(mask, True)).as_py() or 0)


def _floats(table: pa.Table, name: str) -> np.ndarray:
    return table[name].cast(pa.float64(), safe=False).to_numpy()


_JUDGES = (_released, _keys, _looks_ahead, _geometry, _labels, _values, _enough, _audited, _experiment)
