"""What each print of an option that expires today is worth: the columns of `option_greeks` (spec market 7.4)."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from physics import black_scholes
from physics.columns import column, nulled
from physics.order import require_batch_sorted
from physics.ratio import last_before

SOURCES = ("", "solved", "carried", "default")

GREEKS_SCHEMA = pa.schema(
    [
        pa.field("ts_event_ns", pa.int64(), nullable=False),
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("option_symbol", pa.string(), nullable=False),
        pa.field("strike_milli", pa.int32(), nullable=False),
        pa.field("right", pa.string(), nullable=False),
        pa.field("price", pa.float64(), nullable=False),
        pa.field("size", pa.int32(), nullable=False),
        pa.field("aggressor", pa.int8(), nullable=False),
        pa.field("spot_tick", pa.int32()),
        pa.field("es_spy_ratio", pa.float64()),
        pa.field("time_to_expiry_years", pa.float64()),
        pa.field("iv", pa.float64()),
        pa.field("iv_source", pa.string()),
        pa.field("gamma", pa.float64()),
        pa.field("delta", pa.float64()),
        pa.field("dealer_gamma", pa.float64()),
        pa.field("max_input_ts_ns", pa.int64(), nullable=False),
    ]
)

PRINT_COLUMNS = GREEKS_SCHEMA.names[:8]


def option_greeks(
    prints: pa.Table,
    trades: pa.Table,
    ratios: pa.Table,
    *,
    expiry_ns: int,
    RISK_FREE: float,
    SIGMA_DEFAULT: float,
) -> pa.Table:
    """Every print with its volatility and greeks, in the order it came, in `GREEKS_SCHEMA`.

    ``prints``: `PRINT_COLUMNS` of the options that expire on the session's date, ordered by (`ts_event_ns`,
    `ordinal`). ``trades``: `ts_event_ns`, `sequence`, `ordinal`, `tick` of the front contract in total order.
    ``ratios``: `asof_ns`, `es_spy_ratio`, ascending, each holding from its instant on.

    Spot is the last ES trade strictly before the print over the ratio as of it. The volatility is solved from the
    price; else the last one solved from the same option at most 300 s ago is carried; else it is SIGMA_DEFAULT.
    Gamma is per USD of SPY, `dealer_gamma` = -aggressor · size · gamma · 100 shares per USD. Prints of an unknown
    aggressor and prints before the first ES trade have no volatility and greeks, and give none to carry.
    `max_input_ts_ns` is the print's own time: spot and ratio are strictly older.

    A host that keeps the prints of the last 300 s, and the ES trade and ratio before them, gets the same values for the
    newest ones: nothing older is looked at.

    Errors: ValueError when prints, trades or ratios are out of order.
    Source: spec market 7.4.
    """
    require_batch_sorted(trades)
    ts = column(prints, "ts_event_ns", np.int64)
    _require_ascending("prints", ts, column(prints, "ordinal", np.int64))
    ratio_ns = column(ratios, "asof_ns", np.int64)
    _require_ascending("ratios", ratio_ns, ratio_ns)
    tick = column(trades, "tick", np.int32)
    before, ratio_row = np.empty(ts.size, np.int64), np.empty(ts.size, np.int64)
    last_before(ts, column(trades, "ts_event_ns", np.int64), before)
    last_before(ts + 1, ratio_ns, ratio_row)  # a ratio holds from its own instant on
    no_ratio = ratio_row < 0
    ratio = np.append(column(ratios, "es_spy_ratio", np.float64), 0.0)[ratio_row]
    options = pc.dictionary_encode(prints["option_symbol"].combine_chunks())
    source = np.zeros(ts.size, np.int8)
    out = np.zeros((5, ts.size))
    black_scholes.price_prints(
        ts,
        column(prints, "strike_milli", np.int32),
        column(pa.table({"is_call": pc.equal(prints["right"], "C")}), "is_call", np.int8),
        column(prints, "price", np.float64),
        column(prints, "size", np.int32),
        column(prints, "aggressor", np.int8),
        options.indices.to_numpy(),
        len(options.dictionary),
        tick,
        np.where(no_ratio, -1, before),
        ratio,
        expiry_ns,
        RISK_FREE,
        SIGMA_DEFAULT,
        source,
        out,
    )
    unpriced, no_spot = source == black_scholes.UNPRICED, before < 0
    years, iv, gamma, delta, dealer_gamma = (nulled(row, unpriced, pa.float64()) for row in out)
    named = pa.DictionaryArray.from_arrays(pa.array(source, pa.int8(), mask=unpriced), pa.array(SOURCES))
    columns = [
        *(prints[name] for name in PRINT_COLUMNS),
        nulled(np.append(tick, np.int32(0))[before], no_spot, pa.int32()),
        nulled(ratio, no_ratio, pa.float64()),
        *(years, iv, named.cast(pa.string()), gamma, delta, dealer_gamma),
        prints["ts_event_ns"],
    ]
    return pa.table(columns, names=GREEKS_SCHEMA.names).cast(GREEKS_SCHEMA)


def _require_ascending(what: str, ts: np.ndarray, ordinal: np.ndarray) -> None:
    wrong = (ts[1:] < ts[:-1]) | ((ts[1:] == ts[:-1]) & (ordinal[1:] < ordinal[:-1]))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0]) + 1
        raise ValueError(
            f"{what} had ({ts[row]}, {ordinal[row]}) in row {row} after ({ts[row - 1]}, {ordinal[row - 1]}), expected "
            "ascending (ts_event_ns, ordinal)"
        )
