"""The real hour of E-mini records as oracle dicts, decoded by the vendor's own reader."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "realdata" / "databento" / "es_20231225"
GLOBEX_OPEN_NS = 1_703_545_200_000_000_000  # 18:00 New York on 2023-12-25, the session of 2023-12-26
UNDEF_PRICE = 2**63 - 1
TICK_NANOS = 250_000_000


def _tick(mantissa: int) -> int | None:
    if mantissa == UNDEF_PRICE:
        return None
    tick, rest = divmod(mantissa, TICK_NANOS)
    assert rest == 0, f"price {mantissa} is no multiple of a tick"
    return tick


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _in_order(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: (row["ts_event_ns"], row["sequence"], row["ordinal"]))


def load_records(folder: Path = FOLDER) -> list[dict]:
    """The 31,392 mbp-10 records in total order."""
    from databento import DBNStore  # noqa: PLC0415  (slow to import, only the real hour needs it)

    rows = DBNStore.from_file(next(folder.glob("*.mbp-10.dbn.zst"))).to_ndarray()
    records = []
    for ordinal, row in enumerate(rows):
        bids = [(_tick(int(row[f"bid_px_{k:02d}"])), int(row[f"bid_sz_{k:02d}"])) for k in range(10)]
        asks = [(_tick(int(row[f"ask_px_{k:02d}"])), int(row[f"ask_sz_{k:02d}"])) for k in range(10)]
        records.append(
            {
                "ts_event_ns": int(row["ts_event"]),
                "sequence": int(row["sequence"]),
                "ordinal": ordinal,
                "action": _text(row["action"]),
                "side": _text(row["side"]),
                "flags": int(row["flags"]),
                "tick": _tick(int(row["price"])),
                "size": int(row["size"]),
                "bids": bids,
                "asks": asks,
            }
        )
    return _in_order(records)


def load_trades(folder: Path = FOLDER) -> list[dict]:
    """The 2,271 trades in total order."""
    from databento import DBNStore  # noqa: PLC0415

    rows = DBNStore.from_file(next(folder.glob("*.trades.dbn.zst"))).to_ndarray()
    return _in_order(
        [
            {
                "ts_event_ns": int(row["ts_event"]),
                "sequence": int(row["sequence"]),
                "ordinal": ordinal,
                "tick": _tick(int(row["price"])),
                "size": int(row["size"]),
                "aggressor": {"B": 1, "A": -1, "N": 0}[_text(row["side"])],
            }
            for ordinal, row in enumerate(rows)
        ]
    )
