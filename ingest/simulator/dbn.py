"""Writing DBN version 3: metadata, packed records, zstd; a file appears whole under its name or not at all."""

import hashlib
import os
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import databento_dbn
import numpy as np
import zstandard

from ingest.simulator.clock import utc_midnight_ns
from ingest.simulator.contracts import Contract
from lake import atomic

DATASET = "GLBX.MDP3"
TEMP_PREFIX = "._tmp-sim-"
WORDS = {"trades": 6, "mbp-10": 46}  # record length in 8-byte words
RTYPES = {"trades": 0, "mbp-10": 10}
FOLDERS = {"trades": "trades", "mbp-10": "mbp10"}


def vendor_name(schema: str, day: date) -> str:
    return f"glbx-mdp3-{day:%Y%m%d}.{schema}.dbn.zst"


def folder_of(root: Path, schema: str) -> Path:
    return root / "raw" / "dbn" / FOLDERS[schema]


def header_word(schema: str, instrument_id: int) -> int:
    """First 8 bytes of a record, little-endian: length in 4-byte words, rtype, publisher (1, Globex), instrument."""
    return WORDS[schema] * 2 | RTYPES[schema] << 8 | 1 << 16 | instrument_id << 32


def truncate(path: Path) -> tuple[str, int]:
    """Cut a file in its middle; return its sha256 and size."""
    os.truncate(path, path.stat().st_size * 3 // 5)
    return atomic.sha256_file(path), path.stat().st_size


class _HashedFile:
    """A file that knows the sha256 and the size of what went into it."""

    def __init__(self, path: Path):
        self._file = open(path, "wb")  # noqa: SIM115 (closed by `finish` or `discard`)
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def write(self, data) -> int:
        self.sha256.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class DbnFile:
    """One DBN v3 file of one UTC day of ``ts_recv`` under construction.

    Records are rows of int64 words as they lie in the file, little-endian: (n, 46) for mbp-10, (n, 6) for trades.
    ``fault`` names what is wrong with the delivery as a whole.
    ``finish`` completes the temporary file and fills ``sha256`` and ``bytes``; ``publish`` makes it durable and
    gives it its name, after which the caller has to sync the folder once for all files it published.
    Source: the vendor's DBN encoding, version 3.
    """

    def __init__(
        self, folder: Path, schema: str, day: date, contracts: tuple[Contract, ...], fault: str | None = None
    ):
        self.schema, self.day, self.fault = schema, day, fault
        self.record_count = 0
        self.sha256: str | None = None
        self.bytes = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._temp = folder / f"{TEMP_PREFIX}{fault or ''}{vendor_name(schema, day)}"
        self._file = _HashedFile(self._temp)
        self._zstd = zstandard.ZstdCompressor(level=1, write_checksum=True).stream_writer(
            self._file, closefd=False
        )
        self._zstd.write(bytes(_metadata(schema, day, contracts)))

    def write(self, records: np.ndarray) -> None:
        if len(records):
            self._zstd.write(np.ascontiguousarray(records).view(np.uint8).data)
            self.record_count += len(records)

    def finish(self) -> None:
        self._zstd.close()
        self._file.close()
        self.sha256, self.bytes = self._file.sha256.hexdigest(), self._file.bytes
        if self.fault == "truncated-file":
            self.sha256, self.bytes = truncate(self._temp)
        elif self.fault == "wrong-sha256":
            self.sha256 = hashlib.sha256(
                self.sha256.encode()
            ).hexdigest()  # what the list says, of other bytes

    def folder(self, root: Path) -> Path:
        return folder_of(root, self.schema)

    def name(self) -> str:
        return vendor_name(self.schema, self.day)

    def publish(self, path: Path) -> None:
        atomic.fsync_file(self._temp)
        os.replace(self._temp, path)

    def discard(self) -> None:
        self._file.close()
        self._temp.unlink(missing_ok=True)


def _metadata(schema: str, day: date, contracts: tuple[Contract, ...]) -> databento_dbn.Metadata:
    after = day + timedelta(days=1)
    return databento_dbn.Metadata(
        dataset=DATASET,
        schema=databento_dbn.Schema.from_str(schema),
        start=utc_midnight_ns(day),
        end=utc_midnight_ns(after),
        stype_in=databento_dbn.SType.RAW_SYMBOL,
        stype_out=databento_dbn.SType.INSTRUMENT_ID,
        symbols=[c.symbol for c in contracts],
        mappings=[
            SimpleNamespace(
                raw_symbol=c.symbol,
                intervals=[SimpleNamespace(start_date=day, end_date=after, symbol=str(c.instrument_id))],
            )
            for c in contracts
        ],
        version=3,
    )
