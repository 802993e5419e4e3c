"""Levels of one session (spec §5.4, readings 1 and 3)."""

import math
from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction

from .bars import ohlcv
from .rules import DEFAULT, MINUTE_NS, SECOND_NS, last_trade_before, trades_within

CODES = {
    "PM_HIGH": 0,
    "PM_LOW": 1,
    "OR_HIGH": 2,
    "OR_LOW": 3,
    "SESSION_HIGH": 4,
    "SESSION_LOW": 5,
    "SMA_200": 6,
    "VWAP": 7,
    "ROUND": 8,
    "STRIKE": 9,
    "CALL_WALL": 10,
    "PUT_WALL": 11,
    "SMA_400": 12,
    "GAMMA_FLIP": 13,
    "USER": 14,
}
ROUND_STEP_TICKS = 40  # 10 points
ROUND_REACH_TICKS = 200  # 50 points
STRIKE_REACH_MILLI = 5_000  # $5
SEVERAL = ("ROUND", "STRIKE", "USER")  # kinds of which there may be more than one at a time


def session_start_ns(session: dict, p: dict) -> int:
    """§5.4: rth_open in `rth` mode, globex_open in `all` mode."""
    return session["rth_open_ns"] if p["event_hours"] == "rth" else session["globex_open_ns"]


def session_close_ns(session: dict, p: dict) -> int:
    """Reading 3: validity ends at rth_close in `rth` mode, at globex_close in `all` mode."""
    return session["rth_close_ns"] if p["event_hours"] == "rth" else session["globex_close_ns"]


def level_row(name: str, raw_ticks: Fraction | int, valid_from: int, valid_to: int, dynamic: bool) -> dict:
    """One row of `levels`; level_tick = floor(raw / 0.25 + 0.5), computed from the exact value."""
    level_tick = math.floor(Fraction(raw_ticks) + Fraction(1, 2))
    return {
        "level_id": f"{name}_{level_tick}" if name in SEVERAL else name,
        "level_kind": CODES[name],
        "level_kind_name": name,
        "level_price_raw": float(Fraction(raw_ticks) / 4),
        "level_tick": level_tick,
        "level_price": level_tick * 0.25,
        "valid_from_ns": valid_from,
        "valid_to_ns": valid_to,
        "dynamic": dynamic,
    }


def range_rows(name: str, trades: list[dict], start: int, end: int, valid_to: int) -> list[dict]:
    """§5.4: highest and lowest trade of [start, end), valid from its end; no trades, no level."""
    found = [trade["tick"] for trade in trades_within(trades, start, end)]
    if not found or end >= valid_to:
        return []
    return [
        level_row(f"{name}_HIGH", max(found), end, valid_to, False),
        level_row(f"{name}_LOW", min(found), end, valid_to, False),
    ]


def traded_strikes(prints: Sequence[dict], at: dict) -> list[int]:
    """§5.4: strikes with a 0DTE trade before the minute, by whomever, within $5 of the spot; from session start on."""
    if at["spot_spy_milli"] is None:
        return []
    so_far = {row["strike_milli"] for row in prints if row["ts_event_ns"] < at["minute_ns"]}
    return sorted(k for k in so_far if abs(k - at["spot_spy_milli"]) <= STRIKE_REACH_MILLI)


def user_rows(session: dict, p: dict) -> list[dict]:
    """§5.4: the configured lines, each in its own interval as far as the session goes."""
    rows = []
    for line in p["USER_LEVELS"]:
        instants = (datetime.fromisoformat(line[key]) for key in ("from_at", "until_at"))
        start, end = (int(instant.timestamp()) * SECOND_NS for instant in instants)
        start = max(start, session["globex_open_ns"])
        end = min(end, session_close_ns(session, p))
        if start < end:
            rows.append(level_row("USER", Fraction(line["price_points"]) * 4, start, end, False))
    return rows


def level_rows(
    session: dict,
    session_trades: list[dict],
    earlier_bars_120s: list[list[dict]] = (),
    p: dict = DEFAULT,
    *,
    ratio_asof=lambda t_ns: 10.0,
    prints: Sequence[dict] = (),
    walls: Sequence[dict] = (),
) -> list[dict]:
    """§5.4: every level row of a session, sorted by (valid_from, kind, tick).

    `session` holds the instants of dim_session. `session_trades` are its front trades; `earlier_bars_120s`
    the two-minute bars of the same contract in the sessions before it, one list for each, oldest first, of
    which the last SMA_WARMUP_DAYS are used. PM and OR give one row for their whole validity; the dynamic
    kinds one row per whole minute m from events before m, valid on [m, m + 60 s). `ratio_asof(t_ns)` is the
    ES/SPY ratio as of an instant: each row stores that of its `valid_from_ns`. `prints` are those of options that
    expire on the session's date, `walls` what `exposure.wall_rows` makes of them.
    """
    trades = trades_within(session_trades, session["globex_open_ns"], session["globex_close_ns"])
    start = session_start_ns(session, p)
    close = session_close_ns(session, p)
    kinds = p["level_kinds"]
    rows = []
    if "PM" in kinds:
        rows += range_rows("PM", trades, session["premarket_open_ns"], session["rth_open_ns"], close)
    if "OR" in kinds:
        or_end = session["rth_open_ns"] + 15 * MINUTE_NS
        rows += range_rows("OR", trades, session["rth_open_ns"], or_end, close)

    warmup = [bar for bars in list(earlier_bars_120s)[-p["SMA_WARMUP_DAYS"] :] for bar in bars]
    two_minute_bars = warmup + ohlcv(trades, 120)
    for m in range(session["globex_open_ns"], close, MINUTE_NS):
        until = min(m + MINUTE_NS, close)
        if "SESSION" in kinds and m >= start + 2 * MINUTE_NS:
            seen = [trade["tick"] for trade in trades_within(trades, start, m - MINUTE_NS)]
            if seen:
                rows.append(level_row("SESSION_HIGH", max(seen), m, until, True))
                rows.append(level_row("SESSION_LOW", min(seen), m, until, True))
        if "SMA" in kinds:
            closes = [bar["close_tick"] for bar in two_minute_bars if bar["bar_end_ns"] <= m]
            for count in (200, 400):
                if len(closes) >= count:
                    rows.append(
                        level_row(f"SMA_{count}", Fraction(sum(closes[-count:]), count), m, until, True)
                    )
        if "VWAP" in kinds and m >= start + MINUTE_NS:
            seen = trades_within(trades, start, m)
            if seen:
                volume = sum(trade["size"] for trade in seen)
                notional = sum(trade["tick"] * trade["size"] for trade in seen)
                rows.append(level_row("VWAP", Fraction(notional, volume), m, until, True))
        if "ROUND" in kinds:
            spot = last_trade_before(trades, m)
            if spot is not None:
                for tick in range(spot["tick"] - ROUND_REACH_TICKS, spot["tick"] + ROUND_REACH_TICKS + 1):
                    if tick % ROUND_STEP_TICKS == 0:
                        rows.append(level_row("ROUND", tick, m, until, True))
    for at in walls:
        m, ratio = at["minute_ns"], at["es_spy_ratio"]
        strikes = {
            "CALL_WALL": [at["wall_short_call"]],
            "PUT_WALL": [at["wall_short_put"]],
            "GAMMA_FLIP": [at["hvl"]],
            "STRIKE": [k / 1000 for k in traded_strikes(prints, at)],
        }
        rows += [
            level_row(name, Fraction(strike * ratio) * 4, m, m + MINUTE_NS, True)
            for name in strikes
            if name in kinds
            for strike in strikes[name]
            if strike is not None
        ]
    if "USER" in kinds:
        rows += user_rows(session, p)
    for row in rows:
        row["es_spy_ratio"] = ratio_asof(row["valid_from_ns"])
    return sorted(rows, key=lambda row: (row["valid_from_ns"], row["level_kind"], row["level_tick"]))
