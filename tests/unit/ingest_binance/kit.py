"""Small files of every form that Binance data comes in, and one call that reads any of them."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from ingest.binance.archive import read_archive
from ingest.binance.elements import Known
from ingest.binance.load import ingest_files
from ingest.binance.opened import open_recorded
from ingest.binance.recorded import read_recorded
from ingest.binance.report import Options
from ingest.binance.sync import ingest_api
from ingest.binance.tally import Tally
from tests.fixtures.binance_server import Server, serve

DAY_MS = 1_733_011_200_000  # 2024-12-01T00:00:00Z
DAY = "2024-12-01"


def agg_values(i: int, *, gap_at: int | None = None) -> tuple[int, str, str, int, int, int, bool, bool]:
    """Row ``i`` of a made-up tape: one trade every 1,234 ms; from ``gap_at`` on ids are 5 further."""
    agg_id = 3_000_000_000 + i + (5 if gap_at is not None and i >= gap_at else 0)
    price, quantity = f"{96_000 + i % 50}.{i % 100:02d}000000", f"0.{i % 9_999 + 1:05d}000"
    return agg_id, price, quantity, 2 * agg_id, 2 * agg_id + 1, DAY_MS + 1_234 * i, i % 3 == 0, i % 2 == 0


def agg_csv(
    rows: int = 200, *, unit: str = "ms", futures: bool = False, header: bool = False, **more: int
) -> bytes:
    lines = []
    if header:
        names = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
        lines.append(names if futures else f"{names},is_best_match")
    for i in range(rows):
        agg_id, price, quantity, first, last, time, maker, best = agg_values(i, **more)
        stamp = time if unit == "ms" else time * 1000 + i % 1000
        values = [agg_id, price, quantity, first, last, stamp, str(maker).lower() if futures else maker]
        lines.append(",".join(map(str, values if futures else [*values, best])))
    return ("\n".join(lines) + "\n").encode()


def agg_rest(rows: int = 20, **more: int) -> list[dict]:
    keys = ("a", "p", "q", "f", "l", "T", "m", "M")
    return [dict(zip(keys, agg_values(i, **more), strict=True)) for i in range(rows)]


def bar_values(i: int) -> list:
    start = DAY_MS + 60_000 * i
    return [start, "96000.00000000", f"96010.{i % 100:02d}000000", "95990.00000000", "96001.50000000", "12.50000000",
            start + 59_999, "1200018.75000000", 40 + i, "6.00000000", "576009.00000000", "0"]  # fmt: skip


def bars_csv(bars: int = 60, *, header: bool = False) -> bytes:
    names = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    rows = "".join(",".join(map(str, bar_values(i))) + "\n" for i in range(bars))
    return ((f"{names}taker_buy_quote_volume,ignore\n" if header else "") + rows).encode()


def fill(i: int = 0, **changed: object) -> dict:
    return {
        "symbol": "BTCUSDC", "id": 28457 + i, "orderId": 100234, "orderListId": -1, "price": "96000.01000000",
        "qty": "0.00120000", "quoteQty": "115.20001200", "commission": "0.00000120", "commissionAsset": "BTC",
        "time": DAY_MS + 1_000 * i, "isBuyer": True, "isMaker": False, "isBestMatch": True,
    } | changed  # fmt: skip


def ws_agg(i: int = 0, **changed: object) -> dict:
    return {"e": "aggTrade", "E": DAY_MS + 1_234 * i + 3, "s": "BTCUSDC"} | agg_rest(i + 1)[i] | changed


def ws_bar(i: int = 0, *, closed: bool = True, **changed: object) -> dict:
    values = bar_values(i)
    names = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B")
    bar = (
        dict(zip(names, values, strict=True))
        | {"s": "BTCUSDC", "i": "1m", "f": 1, "L": 40, "x": closed}
        | changed
    )
    return {"e": "kline", "E": values[6], "s": "BTCUSDC", "k": bar}


def report(i: int = 0, **changed: object) -> dict:
    return {
        "e": "executionReport", "E": DAY_MS + i, "s": "BTCUSDC", "c": "abc", "S": "SELL", "o": "MARKET", "f": "GTC",
        "q": "0.5", "p": "0.0", "P": "0.0", "F": "0.0", "g": -1, "C": "", "x": "TRADE", "X": "FILLED", "r": "NONE",
        "i": 4293153, "l": "0.50000000", "z": "0.50000000", "L": "96000.00000000", "n": "0.00005000", "N": "BNB",
        "T": DAY_MS + i, "t": 77 + i, "I": 8641984, "w": False, "m": False, "M": False, "O": DAY_MS,
        "Z": "48000.00000000", "Y": "48000.00000000", "Q": "0.0",
    } | changed  # fmt: skip


def lines(*values: object, received_ns: int | None = None) -> bytes:
    prefix = "" if received_ns is None else f"{received_ns} "
    return "".join(f"{prefix}{json.dumps(value)}\n" for value in values).encode()


def zipped(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return out.getvalue()


def long_form(packed: bytes, entries: int = 1) -> bytes:
    """The same zip with the end record of large ones, as some tools write it for every file."""
    at = packed.rfind(b"PK\x05\x06")
    size, offset = struct.unpack_from("<II", packed, at + 12)
    record = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, entries, entries, size, offset)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, at, 1)
    short = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return packed[:at] + record + locator + short


def put(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return path


@dataclass
class Read:
    tables: dict[str, pa.Table]
    line_no: dict[str, list[int]]
    tally: Tally
    rejects: list[tuple]

    def rows(self, kind: str) -> list[dict]:
        return self.tables[kind].to_pylist() if kind in self.tables else []


def read(path: Path, dataset: str = "agg_trades", *, as_of_us: int | None = None, **known: object) -> Read:
    """Everything in ``path``. Checks that the rows' columns are the kind's and that every record is accounted for."""
    rejects: list[tuple] = []
    tally = Tally(lambda *what: rejects.append(what))
    batches = []
    with open_recorded(path) as opened:
        named = opened.named
        facts = Known(
            **{"symbol": named.symbol, "interval": named.interval, "market": named.market, "client_id": 1}
            | known
        )
        if opened.layout is not None:
            found = read_archive(opened.stream, opened.layout, facts, tally, span=named.span_us)
        else:
            found = read_recorded(opened.stream, facts, tally, wanted=dataset, as_of_us=as_of_us)
        batches = list(found)
    for batch in batches:
        assert batch.table.schema.equals(batch.kind.schema)
        assert len(batch.line_no) == batch.table.num_rows
    accepted = sum(batch.table.num_rows for batch in batches)
    assert accepted + tally.rejected + sum(tally.filtered.values()) == tally.records
    assert len(rejects) == tally.rejected
    kinds = {batch.kind.name for batch in batches}
    return Read(
        {name: pa.concat_tables([b.table for b in batches if b.kind.name == name]) for name in kinds},
        {name: [int(n) for b in batches if b.kind.name == name for n in b.line_no] for name in kinds},
        tally,
        rejects,
    )


def sync_and_refuse(root: Path) -> None:
    """A sync of bars with a missing one from a local server, and a file that can't be landed."""
    bars = {"BTCUSDC": [bar_values(i) for i in range(9) if i != 4]}
    with serve(Server(bars=bars)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TICKHOUSE_BINANCE_URL", server.url)
        start = datetime.fromtimestamp(DAY_MS // 1000, UTC)
        synced = ingest_api(root, "klines", Options(symbols=("BTCUSDC",), start=start))
    broken = put(root / "raw", "broken.csv", b"x")
    refused = ingest_files(root, "trades", [str(broken)], Options(client_id=1, account_type="SPOT"))
    broken.unlink()
    assert [file.status for file in (*synced.files, *refused.files)] == ["landed", "quarantined"]
