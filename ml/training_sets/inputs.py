"""Samples of a published version as model input: features as numbers, labels and times beside them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.training_sets import Published
from ml.training_sets.record import as_doubles
from ml.training_sets.split import Samples

HOUR_S = 3_600


@dataclass(frozen=True)
class Rows:
    """One split of a version, in order of (date, as_of, execution). ``features`` holds the raw children of the struct,
    ``label`` those of the labels; the rest is (n,)."""

    features: pa.Table
    label: pa.Table
    symbol: np.ndarray
    samples: Samples

    def __len__(self) -> int:
        return self.features.num_rows

    @property
    def day(self) -> np.ndarray:
        """UTC date of ``as_of``, ISO."""
        return self.samples.as_of_us.astype("datetime64[us]").astype("datetime64[D]").astype(str)

    @property
    def cells(self) -> list[tuple[str, int]]:
        """(symbol, UTC hour) of each row: what a base rate may know."""
        hours = self.samples.as_of_us // (HOUR_S * 1_000_000) % 24
        return [*zip(self.symbol.tolist(), hours.tolist(), strict=True)]

    def target(self, name: str) -> np.ndarray:
        """A label as doubles, NaN for NULL."""
        return as_doubles(self.label[name].combine_chunks())

    def take(self, index: np.ndarray) -> "Rows":
        at = pa.array(index)
        s = self.samples
        kept = Samples(s.as_of_us[index], s.label_time_us[index], s.operation[index])
        return Rows(self.features.take(at), self.label.take(at), self.symbol[index], kept)


def read(found: Published, split: str) -> Rows:
    """The rows of ``train`` or ``test``; features and labels in the order of the record."""
    features, labels, keys, symbols = [], [], [], []
    for path in found.files(split):
        table = pq.ParquetFile(path).read().combine_chunks()
        features.append(flat(table, "features", [f["name"] for f in found.record["features"]]))
        labels.append(flat(table, "label", [c["name"] for c in found.record["labels"]]))
        metadata = table["metadata"].combine_chunks()
        as_of, label_time, operation = (metadata.field(n) for n in ("as_of", "label_time", "operation_id"))
        columns = (as_of, label_time, table["client_id"], operation)
        keys.append(np.column_stack([np.asarray(c.cast(pa.int64())) for c in columns]))
        symbols.append(np.asarray(table["symbol"].to_pylist(), dtype=str))
    joined = np.concatenate(keys)
    return Rows(
        pa.concat_tables(features).combine_chunks(),
        pa.concat_tables(labels).combine_chunks(),
        np.concatenate(symbols),
        Samples.of(*joined.T),
    )


def flat(table: pa.Table, struct: str, names: Sequence[str]) -> pa.Table:
    """Children of a struct as columns, in the order of ``names``."""
    values = table[struct].combine_chunks()
    return pa.table([values.field(n) for n in names], names=[*names])


def categories(features: pa.Table) -> dict[str, list[str]]:
    """The values of each text feature, in order: its dictionary. The code of a value is its index."""
    return {
        name: sorted(v for v in pc.unique(features[name]).to_pylist() if v is not None)
        for name in features.column_names
        if pa.types.is_string(features[name].type) or pa.types.is_large_string(features[name].type)
    }


def encode(features: pa.Table, names: Sequence[str], dictionaries: dict[str, list[str]]) -> pa.Table:
    """Inputs of a model in the order of ``names``: a category as int32 index, NULL where its dictionary lacks it;
    everything else as float64, NULL staying NULL."""
    arrays = []
    for name in names:
        values = features[name].combine_chunks()
        if name in dictionaries:
            known = pa.array(dictionaries[name], pa.string())
            arrays.append(pc.index_in(values.cast(pa.string()), value_set=known).cast(pa.int32()))
        else:
            arrays.append(pa.array(as_doubles(values), from_pandas=True))
    return pa.table(arrays, names=[*names])
