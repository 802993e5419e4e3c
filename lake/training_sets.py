"""Training sets on disk: what a set consists of, which versions are published, and all of them as one relation.

``lake/gold/training_sets/<set>/<version>/{features.json, train/date=…/, test/date=…/}``. ``features.json`` is written
last and makes a version published; a folder without it is of a publication that did not end. What the features and
labels of a set are stands in the YAML of its flat view, ``models/gold/execution/training_sets_<set>_flat.yml``.

Source: spec/execution.md 5.1, 5.4 to 5.6.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lake import atomic, yaml_files
from lake.immutable import FEATURES_FILE
from lake.paths import PROJECT_DIR
from lake.views import literal, quote

SETS = ("stop_outcome", "slippage_prediction")
SPLITS = ("train", "test")
DATA_FILE = "data.parquet"
VERSION = re.compile(r"^v(\d+)\.(\d+)\.(\d+)$")
MODELS_DIR = PROJECT_DIR / "models" / "gold" / "execution"
STRUCTS = {"f_": "features", "y_": "label", "m_": "metadata"}


class NoSuchSet(LookupError):
    """A set, or a version of one, that is not there."""


@dataclass(frozen=True)
class Column:
    """One child of a struct of a set. ``lookback_sec`` is None for one without a bound, ``valid_range`` (lowest,
    highest) with None for an open end; ``role`` is feature, target, label, metadata or lineage."""

    name: str
    dtype: str
    description: str
    role: str
    nullable: bool
    unit: str | None = None
    formula_id: str | None = None
    lookback_sec: int | None = None
    source_tables: tuple[str, ...] = ()
    imputation: str | None = None
    valid_range: tuple[float | None, float | None] | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Definition:
    """The columns of a set, by struct, in stored order."""

    name: str
    features: tuple[Column, ...]
    label: tuple[Column, ...]
    metadata: tuple[Column, ...]

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.label if c.role == "target")

    def struct(self, name: str) -> tuple[Column, ...]:
        return {"features": self.features, "label": self.label, "metadata": self.metadata}[name]


@dataclass(frozen=True)
class Published:
    """One published version: its folder, and its ``features.json``."""

    folder: Path
    record: dict

    @property
    def version(self) -> str:
        return self.folder.name

    def files(self, split: str) -> list[Path]:
        """Parts of ``train`` or ``test`` in order of date."""
        return [self.folder / p["path"] for p in self.record["parts"] if p["path"].startswith(f"{split}/")]


# -- definitions -----------------------------------------------------------------------------------------------------


def definition(name: str) -> Definition:
    """What the set ``name`` consists of, by the YAML of its flat view. Raises NoSuchSet."""
    if name not in SETS:
        raise NoSuchSet(f"training set was {name!r}, expected one of {', '.join(SETS)}; name one of them")
    return _definition(MODELS_DIR / f"training_sets_{name}_flat.yml", name)


@functools.cache
def _definition(path: Path, name: str) -> Definition:
    model = yaml_files.read(path)["models"][0]
    found: dict[str, list[Column]] = {struct: [] for struct in STRUCTS.values()}
    for column in model["columns"]:
        if struct := STRUCTS.get(column["name"][:2]):
            found[struct].append(_column(column))
    return Definition(name, *(tuple(found[s]) for s in ("features", "label", "metadata")))


def _column(column: dict) -> Column:
    meta = column["config"]["meta"]
    bounds = meta.get("valid_range")
    return Column(
        name=column["name"][2:],
        dtype=column["data_type"],
        description=column["description"],
        role=meta["role"],
        nullable="null_when" in meta,
        unit=meta.get("unit"),
        formula_id=meta.get("formula_id"),
        lookback_sec=meta.get("lookback_sec"),
        source_tables=tuple(meta.get("source_tables", ())),
        imputation=meta.get("imputation"),
        valid_range=None if bounds is None else (bounds[0], bounds[1]),
        threshold=meta.get("threshold"),
    )


# -- versions --------------------------------------------------------------------------------------------------------


def set_dir(root: Path, name: str) -> Path:
    return root / "lake" / "gold" / "training_sets" / name


def version_numbers(version: str) -> tuple[int, int, int]:
    """``v1.2.3`` → (1, 2, 3). Raises NoSuchSet for anything else."""
    if not (match := VERSION.match(version)):
        raise NoSuchSet(f"version was {version!r}, expected vMAJOR.MINOR.PATCH such as v1.0.0; name it so")
    return (int(match[1]), int(match[2]), int(match[3]))


def published(root: Path, name: str) -> list[Published]:
    """Published versions of a set, oldest number first. Raises NoSuchSet for an unknown set."""
    definition(name)
    folders = [
        p.parent for p in set_dir(root, name).glob(f"v*/{FEATURES_FILE}") if VERSION.match(p.parent.name)
    ]
    ordered = sorted(folders, key=lambda folder: version_numbers(folder.name))
    return [Published(folder, atomic.read_json(folder / FEATURES_FILE)) for folder in ordered]


def version(root: Path, name: str, version_: str | None = None) -> Published:
    """One published version, by default the newest. Raises NoSuchSet when there is none."""
    found = {p.version: p for p in published(root, name)}
    if version_ is None and found:
        return [*found.values()][-1]
    if version_ not in found:
        raise NoSuchSet(
            f"version of {name} was {version_ or 'the newest'}, expected a published one: "
            f"{', '.join(found) or 'none is'}; run `tickhouse training-sets publish {name}`"
        )
    return found[version_]


# -- as a relation ---------------------------------------------------------------------------------------------------


def relation(root: Path, name: str) -> str:
    """SELECT over the samples of every published version, in parentheses; empty and typed where there is none.

    Besides the columns of the files it shows ``version``, ``split`` and ``date`` from the path. A child of a struct
    that an older version lacks is NULL.
    """
    wanted = definition(name)
    shown = {"sample_id": "uuid", "client_id": "bigint", "symbol": "varchar"}
    types = {s: _struct_type(wanted.struct(s)) for s in STRUCTS.values()}
    selects = []
    for found in published(root, name):
        known = {
            s: {c["name"] for c in found.record[key]}
            for s, key in (("features", "features"), ("label", "labels"))
        }
        for split in SPLITS:
            columns = [f"{quote(n)}" for n in shown]
            columns += [f"{literal(found.version)} as version", f"{literal(split)} as split"]
            columns.append("cast(date as date) as date")
            columns += [f"cast({_struct(wanted, s, known.get(s))} as {t}) as {s}" for s, t in types.items()]
            files = literal([str(path) for path in found.files(split)])
            scan = f"read_parquet({files}, hive_partitioning = true, hive_types = {{'date': varchar}})"
            selects.append(f"select {', '.join(columns)} from {scan}")
    if not selects:
        typed = {**shown, "version": "varchar", "split": "varchar", "date": "date", **types}
        selects = [f"select {', '.join(f'cast(null as {t}) as {n}' for n, t in typed.items())} where false"]
    return f"({' union all '.join(selects)})"


def _struct_type(columns: tuple[Column, ...]) -> str:
    return f"struct({', '.join(f'{quote(c.name)} {c.dtype}' for c in columns)})"


def _struct(wanted: Definition, struct: str, known: set[str] | None) -> str:
    children = [
        f"{quote(c.name)}: {struct}.{quote(c.name)}"
        if known is None or c.name in known
        else f"{quote(c.name)}: null"
        for c in wanted.struct(struct)
    ]
    return f"{{{', '.join(children)}}}"


RELATIONS: dict[str, Callable[[Path], str]] = {
    f"training_sets_{name}": partial(relation, name=name) for name in SETS
}
"""By name, what the macro ``records`` makes of the sets."""
