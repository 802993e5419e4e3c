"""The public tape and bars as the exchange publishes them: archive zips of both clocks, a REST body, a capture, CSV.

Source: spec/execution.md 9.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np

from ingest.simulator.execution.market import MINUTES, MarketDay
from ingest.simulator.execution.wire import MINUTE_US, date_text, money

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
REST_ROWS = 1000


class MarketFiles:
    """Writes the days of each symbol below ``root/binance``. ``forms``: (symbol, day) that come as no zip."""

    def __init__(self, root: Path, forms: dict[tuple[str, int], str]) -> None:
        self._tape = root / "binance" / "spot" / "aggTrades"
        self._bars = root / "binance" / "spot" / "klines"
        self._capture = root / "binance" / "spot" / "capture"
        self._forms = forms
        self.counts = dict.fromkeys(
            ("agg_trades", "agg_id_gaps", "klines", "zero_trade_minutes", "missing_klines"), 0
        )

    def write(self, number: int, day: MarketDay) -> None:
        if day.has_tape:
            form = self._forms.get((day.instrument.symbol, number), "zip")
            getattr(self, f"_tape_{form}")(number, day)
            self.counts["agg_trades"] += int(day.is_published.sum())
            self.counts["agg_id_gaps"] += int((np.diff(day.agg_id[day.is_published]) > 1).sum())
            if not day.has_klines:
                self.counts["zero_trade_minutes"] += int(((day.count == 0) & day.has_bar).sum())
        if day.has_klines:
            self._klines(day)

    def _tape_zip(self, number: int, day: MarketDay) -> None:
        """Even days in milliseconds, odd days in microseconds; a CHECKSUM stands beside each."""
        unit = 1000 if number % 2 == 0 else 1
        i, lines = day.instrument, []
        for place in np.flatnonzero(day.is_published).tolist():
            maker = "True" if day.is_buyer_maker[place] else "False"
            lines.append(
                f"{day.agg_id[place]},{money(i.price(int(day.ticks[place])))},"
                f"{money(i.quantity(int(day.steps[place])))},{day.first_id[place]},{day.last_id[place]},"
                f"{day.time_us[place] // unit},{maker},True\n"
            )
        _archive(self._tape, f"{i.symbol}-aggTrades-{date_text(day.start_us)}", "".join(lines))

    def _tape_rest(self, number: int, day: MarketDay) -> None:
        rows = [self._agg(day, place) for place in np.flatnonzero(day.is_published).tolist()]
        bodies = [rows[k : k + REST_ROWS] for k in range(0, len(rows), REST_ROWS)]
        self._tape.mkdir(parents=True, exist_ok=True)
        path = self._tape / f"{day.instrument.symbol}-aggTrades-{date_text(day.start_us)}.json"
        path.write_text("".join(json.dumps(body, separators=(",", ":")) + "\n" for body in bodies))

    def _tape_capture(self, number: int, day: MarketDay) -> None:
        """Receive times are not ordered, and quotes, prints and open bars stand among the trades."""
        symbol, lines = day.instrument.symbol, []
        for count, place in enumerate(np.flatnonzero(day.is_published).tolist()):
            millis = int(day.time_us[place]) // 1000
            event = {"e": "aggTrade", "E": millis + 1, "s": symbol} | self._agg(day, place)
            received_ns = int(day.time_us[place]) * 1000 + (place * 7919) % 40_000_000
            lines.append(
                f"{received_ns} {_compact({'stream': f'{symbol.lower()}@aggTrade', 'data': event})}\n"
            )
            if count % 50 == 0:
                price, size = event["p"], event["q"]
                quote = {"u": count + 1, "s": symbol, "b": price, "B": size, "a": price, "A": size}
                lines.append(f"{received_ns} {_compact(quote)}\n")
        self._capture.mkdir(parents=True, exist_ok=True)
        (self._capture / f"capture-{symbol.lower()}-{date_text(day.start_us)}.jsonl").write_text(
            "".join(lines)
        )

    def _agg(self, day: MarketDay, place: int) -> dict:
        i = day.instrument
        return {
            "a": int(day.agg_id[place]), "p": money(i.price(int(day.ticks[place]))),
            "q": money(i.quantity(int(day.steps[place]))), "f": int(day.first_id[place]),
            "l": int(day.last_id[place]), "T": int(day.time_us[place]) // 1000,
            "m": bool(day.is_buyer_maker[place]), "M": True,
        }  # fmt: skip

    def _klines(self, day: MarketDay) -> None:
        i, lines = day.instrument, []
        # A kline lacks only where the exchange was down; a gap of the tape is none of it.
        shown = day.has_bar if not day.has_tape else np.ones(MINUTES, bool)
        prints = np.bincount(
            (day.time_us - day.start_us) // MINUTE_US, day.last_id - day.first_id + 1, MINUTES
        )
        for m in np.flatnonzero(shown).tolist():
            opens = (day.start_us + m * MINUTE_US) // 1000
            prices = ",".join(
                money(i.price(int(getattr(day, name)[m]))) for name in ("open", "high", "low", "close")
            )
            quote, taker = (money(int(v[m]) * i.notional_unit) for v in (day.quote, day.taker_quote))
            volume, base = (money(i.quantity(int(v[m]))) for v in (day.volume, day.taker_base))
            lines.append(
                f"{opens},{prices},{volume},{opens + 59_999},{quote},{int(prints[m])},{base},{taker},0\n"
            )
        self.counts["klines"] += len(lines)
        self.counts["missing_klines"] += MINUTES - len(lines)
        self._bars.mkdir(parents=True, exist_ok=True)
        path = self._bars / f"{i.symbol}-1m-{date_text(day.start_us)}.csv"
        path.write_text("".join(lines), encoding="utf-8", newline="\n")


def _archive(folder: Path, stem: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(f"{stem}.csv", _ZIP_TIME), text, zipfile.ZIP_DEFLATED)
    content = data.getvalue()
    (folder / f"{stem}.zip").write_bytes(content)
    (folder / f"{stem}.zip.CHECKSUM").write_text(f"{hashlib.sha256(content).hexdigest()}  {stem}.zip\n")


def _compact(value: dict) -> str:
    return json.dumps(value, separators=(",", ":"))
