"""Gold training tables as model input: which columns a model may see, and how they are encoded."""

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake import datasets as lake_datasets
from lake.params import canonical_json
from lake.paths import PROJECT_DIR

CONTRACTS = PROJECT_DIR / "contracts" / "features.json"
CANDIDATES = "gold/training/candidates"

# Excluded by name as well as by role: a wrong role in the contract must not open the door (spec/market.md
# 12, 14.1).
IDENTITY_COLUMNS = frozenset(
    {
        "observation_id", "event_id", "session_date", "date", "stage", "ts_ns", "anchor_ns", "asof_ns",
        "max_input_ts_ns", "contract", "level_id", "attempt_cluster_id", "universe_version",
        "params_digest",
    }
)  # fmt: skip
REFERENCE_COLUMNS = frozenset(
    {
        "level_kind", "level_tick", "level_price", "spot", "es_spy_ratio", "ratio_source", "sma_200",
        "sma_400", "wall_short_call", "wall_short_put", "wall_long_call", "wall_long_put", "hvl",
    }
)  # fmt: skip
LABEL_COLUMNS = frozenset(
    {
        "outcome", "time_to_break_1", "time_to_break_2", "time_to_bounce_1", "time_to_bounce_2",
        "time_to_threshold_1", "time_to_threshold_2", "tradeable_1", "tradeable_2", "excursion_max",
        "excursion_min", "strength_signed", "strength_abs", "anchor_spot", "future_price", "label_status",
        "label_start_ns", "label_end_ns", "theta_1", "theta_2", "cluster_size", "sample_weight",
    }
)  # fmt: skip
# Copies of a label keep its stem: tradeable_2_lag, label_x, y_outcome.
LABEL_STEM = re.compile(
    r"^(y_|label_|outcome|time_to_|tradeable|excursion|strength_|future_|anchor_spot|theta_|cluster_size)"
)
CATEGORICAL_COLUMNS = frozenset(
    {
        "level_kind_name", "direction", "barrier_state", "fuel_effect", "gamma_bucket",
        "confluence_level", "breakout_state",
    }
)  # fmt: skip
LEVEL_GROUP = "level"
KEY = ("session_date", "asof_ns", "observation_id")
# A feature that repeats a label value by value; on fewer rows that can be chance.
LEAK_MIN_ROWS = 30
LEAK_MAX_CLASSES = 16
LEAK_HEAD_ROWS = 1_000
LEAK_MIN_PER_CLASS = 10


class DatasetError(ValueError):
    """The table cannot be trained on; the message says why and what to do."""


class NoTrainingTable(DatasetError):
    """No partition of the gold training table is committed under this root."""


class LeakError(DatasetError):
    """A column that looks into the future was offered as a model input."""


@dataclass(frozen=True)
class Column:
    """One column of a version's contract. ``domain`` is the ordered list of values of an enum, else None."""

    name: str
    dtype: str
    unit: str | None
    nullable: bool
    domain: tuple[object, ...] | None
    role: str
    group: str


@dataclass(frozen=True)
class Contract:
    """Ordered columns of one feature version with its labels, as ``contracts/features.json`` states them."""

    version: str
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise DatasetError(
            f"column was {name!r}, expected one of the contract of {self.version}; "
            "name a column of contracts/features.json"
        )

    @property
    def schema_hash(self) -> str:
        """sha256 over the ordered (name, dtype) of the model inputs."""
        pairs = [[c.name, c.dtype] for c in self.columns if c.role == "feature"]
        return hashlib.sha256(canonical_json(pairs).encode()).hexdigest()


def load_contract(version: str, path: Path = CONTRACTS) -> Contract:
    """The contract of ``version`` (directory name, such as ``v1.0_mechanics_only``). Raises DatasetError if
    unknown.
    """
    if not path.is_file():
        raise DatasetError(f"{path.name} is missing, expected the generated contract; run `make contracts`")
    versions = json.loads(path.read_text())
    if version not in versions:
        raise DatasetError(
            f"version was {version!r}, expected one of {', '.join(sorted(versions))}; choose with --version"
        )
    return contract_from(version, versions[version]["columns"])


def contract_from(version: str, columns: Sequence[dict]) -> Contract:
    """A contract from its JSON form: one dictionary each with the fields of `Column`."""
    return Contract(
        version,
        tuple(
            Column(
                name=c["name"],
                dtype=c["dtype"],
                unit=c.get("unit"),
                nullable=bool(c.get("nullable", True)),
                domain=None if c.get("domain") is None else tuple(c["domain"]),
                role=c["role"],
                group=c.get("group") or "",
            )
            for c in columns
        ),
    )


def feature_columns(contract: Contract, names: Sequence[str] | None = None) -> list[Column]:
    """Model inputs in contract order; ``names`` narrows them.

    A column enters only when its role is ``feature`` and its name is none of an id, a reference or a label.
    A label by role or by name raises LeakError; another column that is no feature, an unknown one, or a
    text column without an enum domain raises DatasetError. Source: spec/market.md 12 and 14.1.
    """
    chosen = (
        [contract.column(n) for n in names]
        if names is not None
        else [c for c in contract.columns if c.role == "feature"]
    )
    for column in chosen:
        if column.role == "label" or column.name in LABEL_COLUMNS or LABEL_STEM.match(column.name):
            raise LeakError(
                f"{column.name} was offered as a model input, but it is a label (role {column.role}, by name "
                f"{'a label' if column.name in LABEL_COLUMNS or LABEL_STEM.match(column.name) else 'none'}); "
                "labels see the future: take it out of the features"
            )
        if column.role != "feature" or column.name in IDENTITY_COLUMNS or column.name in REFERENCE_COLUMNS:
            raise DatasetError(
                f"{column.name} was offered as a model input with role {column.role}, expected a feature; "
                "ids and reference columns never enter a model"
            )
        if column.name in CATEGORICAL_COLUMNS and not column.domain:
            raise DatasetError(
                f"{column.name} has no domain in the contract, expected its enum; add it to the model YAML"
            )
        if column.name not in CATEGORICAL_COLUMNS and column.dtype.upper() in {
            "STR",
            "VARCHAR",
            "TEXT",
            "STRING",
        }:
            raise DatasetError(
                f"{column.name} is text and no category; expected a number or an entry of CATEGORICAL_COLUMNS"
            )
    wanted = {c.name for c in chosen}
    return [c for c in contract.columns if c.name in wanted]


def level_columns(contract: Contract) -> list[Column]:
    """Inputs of the ``level_only`` floor: the mandatory group ``level``."""
    return [c for c in feature_columns(contract) if c.group == LEVEL_GROUP]


def categories(columns: Sequence[Column]) -> dict[str, list]:
    """Dictionary of each categorical input: its enum domain, in order. The code of a value is its index."""
    return {c.name: list(c.domain or ()) for c in columns if c.name in CATEGORICAL_COLUMNS}


def encode(table: pa.Table, names: Sequence[str], dictionaries: dict[str, list]) -> pa.Table:
    """The inputs ``names`` of ``table`` as numbers in the order of ``names``; doubles stay where they are.

    A category becomes the int32 index in its dictionary; NULL and a value that the dictionary lacks become
    NULL, which LightGBM reads as missing. Everything else becomes float64, NULL staying NULL. (rows,
    len(names)).
    """
    arrays = []
    for name in names:
        values = table[name]
        if name in dictionaries:
            values = values.combine_chunks()
            if pa.types.is_dictionary(values.type):
                values = values.dictionary_decode()
            text = values.cast(pa.string())
            arrays.append(
                pc.index_in(text, value_set=pa.array([str(v) for v in dictionaries[name]], pa.string()))
            )
        elif pa.types.is_boolean(values.type):
            arrays.append(values.cast(pa.int8()).cast(pa.float64()))
        else:
            arrays.append(values if pa.types.is_float64(values.type) else values.cast(pa.float64()))
    return pa.table(arrays, names=list(names))


@dataclass(frozen=True)
class TrainingTable:
    """One gold training table in memory: rows sorted by (session_date, asof_ns, observation_id)."""

    table: pa.Table
    contract: Contract

    @property
    def sessions(self) -> list[str]:
        """Distinct session dates, ISO, in order."""
        return sorted(day.isoformat() for day in pc.unique(_days(self.table)).to_pylist())

    def stage(self, name: str) -> pa.Table:
        """Rows of one stage; the table itself, not a copy, where it has no other."""
        of_stage = pc.equal(self.table["stage"], name)
        return self.table if pc.all(of_stage, min_count=0).as_py() else self.table.filter(of_stage)


def rows_at(table: pa.Table, index: np.ndarray) -> pa.Table:
    """Rows ``index`` (ascending) of a table; a view, not a copy, where they follow each other."""
    if len(index) and index[-1] - index[0] + 1 == len(index):
        return table.slice(int(index[0]), len(index))
    return table.take(pa.array(index))


def session_dates(table: pa.Table) -> np.ndarray:
    """ISO date of each row's session, (rows,) text of ten characters: each session is spelled once."""
    encoded = _encoded(_days(table))
    names = np.array([day.isoformat() for day in encoded.dictionary.to_pylist()], "U10")
    return names[encoded.indices.to_numpy(zero_copy_only=False)]


def session_days(table: pa.Table) -> np.ndarray:
    """The date of each row's session, (rows,) datetime64[D]: what is compared; `session_dates` is what is shown."""
    return _days(table).to_numpy()


def texts(values: pa.ChunkedArray) -> np.ndarray:
    """A column of few values as text, (rows,), NULL being ``None`` spelled out: each value is spelled once."""
    encoded = _encoded(values)
    return np.asarray(encoded.dictionary.to_pylist(), dtype=str)[
        encoded.indices.to_numpy(zero_copy_only=False)
    ]


def numbered(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """(rows,) int64, equal where rows are equal in all of the columns ``names``, NULL being a value."""
    whole = np.zeros(table.num_rows, np.int64)
    for name in names:
        encoded = _encoded(table[name])
        whole = whole * max(len(encoded.dictionary), 1) + encoded.indices.to_numpy(zero_copy_only=False)
    return whole


def _days(table: pa.Table) -> pa.ChunkedArray:
    return table["session_date"].cast(pa.date32())


def folder(version: str) -> str:
    """Place of a version's unpromoted training table, relative to ``<root>/lake``."""
    return f"{CANDIDATES}/{version}"


def load(root: Path, version: str, contract: Contract | None = None) -> TrainingTable:
    """The committed gold training table of ``version``, all stages, checked against its contract.

    Raises NoTrainingTable when nothing is committed, LeakError and DatasetError as `check` does.
    """
    contract = contract or load_contract(version)
    _require_partitions(root, version)
    # The system's allocator holds columns of a partition in a third less than pyarrow's own, which rounds them up.
    table = lake_datasets.read(root, folder(version), memory_pool=pa.system_memory_pool())
    if table.num_rows == 0:
        raise NoTrainingTable(
            f"gold training table {version} had no row under {root}, expected labelled touches; "
            "land more sessions with `tickhouse ingest dbn`, then run `dbt build`"
        )
    return check(table, contract)


def digest(root: Path, version: str) -> str:
    """Content digest of the committed training table, from its commit records. Raises NoTrainingTable."""
    _require_partitions(root, version)
    return lake_datasets.dataset_digest(root, folder(version))


def _require_partitions(root: Path, version: str) -> None:
    if not lake_datasets.partitions(root, folder(version)):
        raise NoTrainingTable(
            f"gold training table {version} had no partition under {root}, expected labelled sessions; "
            "land sessions with `tickhouse ingest dbn`, then run `dbt build`"
        )


def check(table: pa.Table, contract: Contract) -> TrainingTable:
    """``table`` in key order, after refusing what must not be trained on.

    Columns must be those of the contract; every row must be labelled (``label_status`` ok, ``tradeable_2``
    set, an outcome that agrees with it); ``max_input_ts_ns < asof_ns ≤ label_start_ns``; no input may
    repeat a label.
    """
    expected = {c.name for c in contract.columns} | {"session_date"}
    actual = set(table.column_names) - {"date"}
    if missing := sorted(expected - actual):
        raise DatasetError(
            f"training table lacked {', '.join(missing)}, expected the contract of {contract.version}; "
            "run `dbt build`"
        )
    if unknown := sorted(actual - expected):
        raise DatasetError(
            f"training table had {', '.join(unknown)}, unknown to the contract of {contract.version}; "
            "declare them in the model YAML and generate the contract again"
        )
    bad_status = pc.sum(pc.fill_null(pc.not_equal(table["label_status"], "ok"), True)).as_py() or 0
    if bad_status:
        raise DatasetError(
            f"label_status was not ok in {bad_status} rows, expected none in gold; "
            "build the training table again"
        )
    tradeable = pc.fill_null(table["tradeable_2"], -1)
    passed = pc.is_in(table["outcome"], value_set=pa.array(["BREAK", "BOUNCE"]))
    chop = pc.fill_null(pc.equal(table["outcome"], "CHOP"), False)
    agrees = pc.or_(pc.and_(pc.equal(tradeable, 1), passed), pc.and_(pc.equal(tradeable, 0), chop))
    if disagree := table.num_rows - (pc.sum(agrees).as_py() or 0):
        raise DatasetError(
            f"outcome and tradeable_2 disagreed in {disagree} rows, expected tradeable_2 = 1 "
            "exactly for BREAK and BOUNCE; build the labels again"
        )
    for earlier, later, strict in (
        ("max_input_ts_ns", "asof_ns", True),
        ("asof_ns", "label_start_ns", False),
    ):
        compare = pc.less if strict else pc.less_equal
        ordered = pc.fill_null(compare(table[earlier], table[later]), False)
        if wrong := table.num_rows - (pc.sum(ordered).as_py() or 0):
            raise LeakError(
                f"{earlier} was {'not before' if strict else 'after'} {later} in {wrong} rows, "
                "expected none; "
                "such a row sees its own future; build the features again"
            )
    if not in_order(table):  # partitions mostly are: a copy of everything would double what is in memory
        table = table.sort_by([(c, "ascending") for c in KEY]).combine_chunks()
    refuse_copied_labels(table, contract)
    return TrainingTable(table, contract)


def in_order(table: pa.Table) -> bool:
    """Whether the rows stand strictly by `KEY`."""
    before, after = table.slice(0, max(table.num_rows - 1, 0)), table.slice(1)
    less, equal = pa.scalar(False), pa.scalar(True)
    for name in KEY:
        a, b = (t[name].cast(pa.int32()) if name == "session_date" else t[name] for t in (before, after))
        less = pc.or_(less, pc.and_(equal, pc.less(a, b)))
        equal = pc.and_(equal, pc.equal(a, b))
    return bool(pc.all(less, min_count=0).as_py())


def refuse_copied_labels(table: pa.Table, contract: Contract) -> None:
    """Raise LeakError when an input is a label under another name.

    A number equal to a label in every row, or an input that names a label's classes one to one, is a
    copy. Constant columns, classes below 10 rows and tables below 30 prove nothing and pass.
    """
    if table.num_rows < LEAK_MIN_ROWS:
        return
    labels = sorted(LABEL_COLUMNS & set(table.column_names))
    label_codes = functools.cache(lambda name: _few_codes(table[name]))
    for column in feature_columns(contract):
        codes = _few_codes(table[column.name])
        for name in labels:
            # One of many values can be no copy of one of few, and comparing the first rows says so.
            copied = (
                _equal(table[column.name], table[name])
                if codes is None
                else _names_classes(codes, label_codes(name))
            )
            if copied:
                raise LeakError(
                    f"{column.name} repeated the label {name} in all {table.num_rows} rows, "
                    "expected an input known at asof_ns; take it out of the features"
                )


def _names_classes(codes: np.ndarray, label: np.ndarray | None) -> bool:
    """Whether the values that ``codes`` number name the classes of a label of few values one to one."""
    if label is None:
        return False
    n_classes = int(label.max()) + 1
    return (
        int(codes.max()) + 1 == n_classes > 1
        and np.bincount(label).min() >= LEAK_MIN_PER_CLASS
        and len(np.unique(codes * n_classes + label)) == n_classes
    )


def _few_codes(values: pa.ChunkedArray) -> np.ndarray | None:
    """`_codes` of a column of at most 16 values, None for one of more: a look at its first rows mostly tells."""
    head = values.slice(0, LEAK_HEAD_ROWS)
    if pc.count_distinct(head, mode="all").as_py() > LEAK_MAX_CLASSES:
        return None
    codes = _codes(values)
    return codes if len(codes) and codes.max() < LEAK_MAX_CLASSES else None


def _codes(values: pa.ChunkedArray) -> np.ndarray:
    """Index of each row's value among the distinct ones, NULL being a value."""
    return _encoded(values).indices.to_numpy(zero_copy_only=False)


def _encoded(values: pa.ChunkedArray) -> pa.DictionaryArray:
    whole = values.combine_chunks()
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    return whole.dictionary_encode(null_encoding="encode")


def _equal(a: pa.ChunkedArray, b: pa.ChunkedArray) -> bool:
    """Whether two columns of numbers are equal in every row, NULL being equal to NULL; the first rows mostly tell."""
    if not all(pa.types.is_integer(v.type) or pa.types.is_floating(v.type) for v in (a, b)):
        return False

    def equal(x: pa.ChunkedArray, y: pa.ChunkedArray) -> bool:
        x, y = (v.cast(pa.float64(), safe=False).to_numpy() for v in (x, y))
        return bool(np.array_equal(x, y, equal_nan=True))

    return equal(a.slice(0, LEAK_HEAD_ROWS), b.slice(0, LEAK_HEAD_ROWS)) and equal(a, b)
