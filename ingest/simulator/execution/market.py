"""Prices, tape and bars of one symbol, a UTC day at a time.

A geometric random walk in log price, whose volatility a minute switches between three regimes; prints at random
instants see it, and bars are made of the prints. Source: spec/execution.md 3.6, 4.7, 10.
"""

from dataclasses import dataclass, field

import numpy as np

from ingest.simulator.execution.instruments import Instrument
from ingest.simulator.execution.wire import DAY_US, MINUTE_US, UNIT

MINUTES = 1440
REGIMES = (0.0005, 0.001, 0.003)  # calm, normal, stressed: standard deviation of a minute's log return
_STAY = (0.995, 0.995, 0.98)
_NEXT = ((0.0, 0.95, 0.05), (0.7, 0.0, 0.3), (0.1, 0.9, 0.0))
TRADES_PER_MINUTE = 3.0
LEAST_BARS_24H, LEAST_RETURNS = 1368, 10
RETURNS = 15


@dataclass
class MarketDay:
    """One day of a symbol. Tape, (n,) in order of time: ``time_us``, ``ticks``, ``steps``, ``is_buyer_maker``,
    ``agg_id``, ``first_id``, ``last_id``, and ``is_published``: False in the gap. Bars, (1440,): ``open``, ``high``,
    ``low``, ``close`` in ticks, ``volume``, ``taker_base`` in steps, ``quote``, ``taker_quote`` in ticks × steps,
    ``count``; ``has_bar``: whether whoever reads the files can know the bar.
    """

    instrument: Instrument
    start_us: int
    has_klines: bool
    has_tape: bool
    time_us: np.ndarray
    ticks: np.ndarray
    steps: np.ndarray
    is_buyer_maker: np.ndarray
    agg_id: np.ndarray
    first_id: np.ndarray
    last_id: np.ndarray
    is_published: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    quote: np.ndarray
    taker_base: np.ndarray
    taker_quote: np.ndarray
    count: np.ndarray
    has_bar: np.ndarray
    volatility: np.ndarray = field(default_factory=lambda: np.empty(0))
    median_volume: np.ndarray = field(default_factory=lambda: np.empty(0))
    volume_24h: np.ndarray = field(default_factory=lambda: np.empty(0))
    volume_24h_base: np.ndarray = field(default_factory=lambda: np.empty(0))
    bars_24h: np.ndarray = field(default_factory=lambda: np.empty(0))


class SymbolMarket:
    """Days of one symbol in order; remembers the day before, which rolling figures need.

    ``gap_day`` loses ten minutes of its tape, ``hole`` is a range of instants (µs) without klines, ``last_day`` the
    number of the last day that files are written of.
    """

    def __init__(
        self,
        seed: int,
        instrument: Instrument,
        start_us: int,
        *,
        has_tape: bool,
        klines_every: int,
        gap_day: int | None = None,
        hole: tuple[int, int] | None = None,
        last_day: int | None = None,
    ) -> None:
        self.instrument, self.has_tape = instrument, has_tape
        self._klines_every, self._gap_day, self._hole, self._last_day = klines_every, gap_day, hole, last_day
        name = int.from_bytes(instrument.symbol.encode()[:8], "big")
        self._rng = np.random.default_rng([seed, 1, name])
        self._start_us, self._number = start_us, 0
        self._log_price = float(np.log(instrument.first_price))
        self._last_us = start_us
        self._regime, self._agg_id, self._trade_id = 1, 1, 1
        self.before: MarketDay | None = None
        self.today: MarketDay | None = None

    def next_day(self) -> MarketDay:
        self.before = self.today
        day_us = self._start_us + self._number * DAY_US
        has_klines = self._number % self._klines_every == self._klines_every - 1
        rng = self._rng
        sigma = np.array(REGIMES)[self._regimes()]
        minute = np.repeat(np.arange(MINUTES), rng.poisson(TRADES_PER_MINUTE, MINUTES))
        # Of a millisecond, as the vendor tells it.
        time_us = np.sort(minute * MINUTE_US + rng.integers(0, 60_000, len(minute)) * 1000) + day_us
        minute = (time_us - day_us) // MINUTE_US
        passed = np.diff(time_us, prepend=self._last_us) / MINUTE_US
        log_price = self._log_price + np.cumsum(
            sigma[minute] * np.sqrt(passed) * rng.standard_normal(len(minute))
        )
        tick = self.instrument.tick / UNIT
        ticks = np.maximum(1, np.rint(np.exp(log_price) / tick)).astype(np.int64)
        size = self.instrument.trade_size * np.exp(0.8 * rng.standard_normal(len(minute)))
        steps = np.maximum(1, np.rint(size * UNIT / self.instrument.step)).astype(np.int64)
        maker = rng.random(len(minute)) < 0.5
        prints = 1 + rng.poisson(0.3, len(minute))
        last_id = self._trade_id - 1 + np.cumsum(prints)
        day = MarketDay(
            self.instrument, day_us, has_klines, self.has_tape, time_us, ticks, steps, maker,
            self._agg_id + np.arange(len(minute)), last_id - prints + 1, last_id, np.ones(len(minute), bool),
            **self._bars(minute, ticks, steps, maker), has_bar=np.ones(MINUTES, bool),
        )  # fmt: skip
        self._log_price, self._last_us = float(log_price[-1]), int(time_us[-1])
        self._agg_id, self._trade_id = int(day.agg_id[-1]) + 1, int(last_id[-1]) + 1
        self._take_away(day, minute)
        self._number += 1
        self.today = day
        _roll(day, self.before)
        return day

    def _regimes(self) -> np.ndarray:
        u = self._rng.random((MINUTES, 2))
        out = np.empty(MINUTES, np.int64)
        for m in range(MINUTES):
            if u[m, 0] > _STAY[self._regime]:
                self._regime = int(np.searchsorted(np.cumsum(_NEXT[self._regime]), u[m, 1], side="right"))
            out[m] = self._regime
        return out

    def _bars(self, minute: np.ndarray, ticks: np.ndarray, steps: np.ndarray, maker: np.ndarray) -> dict:
        """Bars of the prints; a minute without one is flat at the close before it."""
        first = np.flatnonzero(np.diff(minute, prepend=-1))
        at = minute[first]
        last = np.append(first[1:], len(minute)) - 1
        before = self.today.close[-1] if self.today is not None else ticks[0]
        close = np.zeros(MINUTES, np.int64)
        close[at] = ticks[last]
        seen = np.maximum.accumulate(np.where(close > 0, np.arange(MINUTES), -1))
        close = np.where(seen >= 0, close[np.maximum(seen, 0)], before)
        bars = {name: close.copy() for name in ("open", "high", "low")}
        bars["open"][at] = ticks[first]
        bars["high"][at] = np.maximum.reduceat(ticks, first)
        bars["low"][at] = np.minimum.reduceat(ticks, first)
        taker = np.where(maker, 0, steps)
        sums = {"volume": steps, "quote": ticks * steps, "taker_base": taker, "taker_quote": ticks * taker}
        for name, values in sums.items():
            bars[name] = np.zeros(MINUTES, np.int64)
            bars[name][at] = np.add.reduceat(values, first)
        count = np.bincount(minute, minlength=MINUTES)
        return bars | {"close": close, "count": count}

    def _take_away(self, day: MarketDay, minute: np.ndarray) -> None:
        """Mark what the files will not tell."""
        if not self.has_tape and not day.has_klines:
            day.has_bar[:] = False
        if self._hole is not None and day.has_klines and not self.has_tape:
            opens = day.start_us + np.arange(MINUTES) * MINUTE_US
            day.has_bar[(opens >= self._hole[0]) & (opens < self._hole[1])] = False
        if self._gap_day == self._number:
            lost = (minute >= 600) & (minute < 610)
            day.is_published[lost] = False
            if not day.has_klines:
                kept = np.flatnonzero(day.is_published)
                # From the last print before the gap to the first after it nobody knows what was traded.
                start = kept[np.searchsorted(kept, np.flatnonzero(lost)[0]) - 1]
                end = kept[np.searchsorted(kept, np.flatnonzero(lost)[-1])]
                day.has_bar[minute[start] : minute[end] + 1] = False
        if self._number == 0 and self.has_tape and not day.has_klines:
            day.has_bar[: minute[0]] = False  # nothing is known before the first print
        if self._number == self._last_day and self.has_tape and not day.has_klines:
            day.has_bar[minute[-1] + 1 :] = False  # nor after the last


def _roll(day: MarketDay, before: MarketDay | None) -> None:
    """Figures of the bars before each minute of ``day``, NaN where too few are known. Source: spec/execution.md 5.1."""

    def joined(name: str) -> np.ndarray:
        now = np.where(day.has_bar, getattr(day, name).astype(float), np.nan)
        if before is None:
            return np.concatenate([np.full(MINUTES, np.nan), now])
        return np.concatenate([np.where(before.has_bar, getattr(before, name).astype(float), np.nan), now])

    close, volume = joined("close"), joined("volume")
    returns = np.diff(np.log(close))  # of the minutes 1 to 2879
    tail = returns[MINUTES - RETURNS - 1 : -1]  # a window of minute m ends with the return of m − 1
    windows = np.lib.stride_tricks.sliding_window_view(tail, RETURNS)
    known = np.isfinite(windows)
    n = known.sum(axis=1)
    filled = np.where(known, windows, 0.0)
    mean = filled.sum(axis=1) / np.maximum(n, 1)
    squares = np.where(known, (windows - mean[:, None]) ** 2, 0.0).sum(axis=1)
    day.volatility = np.where(n >= LEAST_RETURNS, np.sqrt(squares / np.maximum(n - 1, 1)), np.nan)
    days = np.lib.stride_tricks.sliding_window_view(volume[:-1], MINUTES)
    is_known = np.isfinite(volume)
    total = np.concatenate([[0], np.cumsum(is_known)])
    day.bars_24h = total[MINUTES : 2 * MINUTES] - total[:MINUTES]
    # Whole numbers below 2**53 in ticks × steps: exact.
    for name, source in (("volume_24h", "quote"), ("volume_24h_base", "volume")):
        sums = np.concatenate([[0], np.cumsum(np.nan_to_num(joined(source)).astype(np.int64))])
        setattr(day, name, sums[MINUTES : 2 * MINUTES] - sums[:MINUTES])
    with np.errstate(all="ignore"):
        enough = day.bars_24h >= LEAST_BARS_24H
        day.median_volume = np.full(MINUTES, np.nan)
        if enough.any():
            day.median_volume[enough] = np.nanmedian(days[enough], axis=1)
