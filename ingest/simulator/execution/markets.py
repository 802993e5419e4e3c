"""The markets of a run: the days around the one that is played, and what may be asked of them at an instant."""

from dataclasses import dataclass

import numpy as np

from ingest.simulator.execution.instruments import FEE_SYMBOL, INSTRUMENTS, Instrument
from ingest.simulator.execution.market import LEAST_BARS_24H, MarketDay, SymbolMarket
from ingest.simulator.execution.wire import DAY_US, HOUR_US, MINUTE_US

PRICE_MINUTES = 60  # how old a bar may be that gives a price
GAP_DAY, HOLE_DAY = 2, 1
HOLE_HOURS = (10, 13)


@dataclass(frozen=True)
class Statistics:
    """Of the bars before the minute of an instant; None where too few are known. Volumes in 1e-8 units."""

    volatility_15m: float | None
    median_1m_volume: float | None
    volume_24h: int | None
    volume_24h_base: int | None
    last_return: float | None


class Markets:
    """``days`` are those of each symbol by number; the one before the current day and the one after it are there."""

    def __init__(
        self, seed: int, symbols: list[str], start_us: int, days: int, faults: frozenset[str]
    ) -> None:
        self.start_us, self.symbols = start_us, symbols
        self.gap_day = (GAP_DAY if days > GAP_DAY else 0) if "agg-id-gap" in faults else None
        hole_day = start_us + (HOLE_DAY if days > HOLE_DAY else 0) * DAY_US
        hole = tuple(hole_day + h * HOUR_US for h in HOLE_HOURS) if "missing-bars" in faults else None
        self.hole = hole
        self._makers = {}
        for symbol in [*symbols, FEE_SYMBOL]:
            has_tape = symbol in symbols and symbol != "CANARYUSDC"
            self._makers[symbol] = SymbolMarket(
                seed,
                INSTRUMENTS[symbol],
                start_us,
                has_tape=has_tape,
                klines_every=2 if has_tape else 1,
                gap_day=self.gap_day if symbol == symbols[0] else None,
                hole=hole if symbol == FEE_SYMBOL else None,
                last_day=days - 1,
            )
        self.days: dict[str, dict[int, MarketDay]] = {symbol: {} for symbol in self._makers}

    def instrument(self, symbol: str) -> Instrument:
        return INSTRUMENTS[symbol]

    def advance(self, number: int) -> None:
        """Make day ``number`` the current one."""
        for symbol, maker in self._makers.items():
            known = self.days[symbol]
            while len(known) == 0 or max(known) < number + 1:
                made = maker.next_day()
                known[(made.start_us - self.start_us) // DAY_US] = made
            for old in [n for n in known if n < number - 1]:
                del known[old]

    def day_of(self, symbol: str, time_us: int) -> tuple[MarketDay, int]:
        """The day of an instant, and its minute."""
        number, rest = divmod(time_us - self.start_us, DAY_US)
        return self.days[symbol][number], rest // MINUTE_US

    def price_ticks(self, symbol: str, time_us: int) -> int:
        """The last print at or before an instant."""
        day, _ = self.day_of(symbol, time_us)
        place = int(np.searchsorted(day.time_us, time_us, side="right")) - 1
        return int(day.ticks[place if place >= 0 else 0])

    def close_before(self, symbol: str, time_us: int) -> int | None:
        """Close, 1e-8 units, of the last known bar that ended by an instant, not older than an hour; or None."""
        minute = (time_us - self.start_us) // MINUTE_US
        tick = INSTRUMENTS[symbol].tick
        for place in range(minute - 1, max(minute - 2 - PRICE_MINUTES, -1), -1):
            if self.start_us + (place + 1) * MINUTE_US < time_us - PRICE_MINUTES * MINUTE_US:
                return None
            number, m = divmod(place, 1440)
            day = self.days[symbol].get(number)
            if day is None:
                return None
            if day.has_bar[m]:
                return int(day.close[m]) * tick
        return None

    def statistics(self, symbol: str, time_us: int) -> Statistics:
        day, m = self.day_of(symbol, time_us)
        instrument = INSTRUMENTS[symbol]
        vol, median = float(day.volatility[m]), float(day.median_volume[m])
        full = int(day.bars_24h[m]) >= LEAST_BARS_24H
        return Statistics(
            None if np.isnan(vol) else vol,
            None if np.isnan(median) else median * instrument.step / 1e8,
            int(day.volume_24h[m]) * instrument.notional_unit if full else None,
            int(day.volume_24h_base[m]) * instrument.step if full else None,
            self._last_return(symbol, time_us),
        )

    def _last_return(self, symbol: str, time_us: int) -> float | None:
        closes = []
        for back in (1, 2):
            number, m = divmod((time_us - self.start_us) // MINUTE_US - back, 1440)
            day = self.days[symbol].get(number)
            if day is None or not day.has_bar[m]:
                return None
            closes.append(float(day.close[m]))
        return float(np.log(closes[0] / closes[1]))

    def first_crossing(
        self, symbol: str, after_us: int, direction: int, stop_ticks: int, target_ticks: int
    ) -> tuple[int, str] | None:
        """When the first print after an instant, on its day, reaches a level, and which: the stop is tested first."""
        day, _ = self.day_of(symbol, after_us)
        start = int(np.searchsorted(day.time_us, after_us, side="right"))
        prices = day.ticks[start:] * direction
        stopped, reached = prices <= stop_ticks * direction, prices >= target_ticks * direction
        either = stopped | reached
        place = int(np.argmax(either)) if len(either) else 0
        if not len(either) or not either[place]:
            return None
        return int(day.time_us[start + place]), "STOP_LOSS" if stopped[place] else "TAKE_PROFIT"

    def extremes(self, symbol: str, opened_us: int, closed_us: int) -> tuple[int, int] | None:
        """Lowest and highest price, ticks, of the full bars within [opened, closed]; None without any."""
        first = -((self.start_us - opened_us) // MINUTE_US)
        end = (closed_us - self.start_us) // MINUTE_US
        low, high = [], []
        for number in range(first // 1440, (end - 1) // 1440 + 1 if end > first else first // 1440):
            day = self.days[symbol].get(number)
            if day is None:
                return None
            part = slice(max(first - number * 1440, 0), min(end - number * 1440, 1440))
            bars = day.has_bar[part]
            if bars.any():
                low.append(int(day.low[part][bars].min()))
                high.append(int(day.high[part][bars].max()))
        return (min(low), max(high)) if low else None
