"""Signed flow and realised volatility of the public tape right before given instants (spec/execution.md 5.4)."""

import numpy as np
import pyarrow as pa
from numba import njit, types

from physics.columns import I64, column, read_only
from physics.decimals import HALVES, decimal_halves, split
from physics.slices import symbol_slices
from physics.sums import two_sum

MINUTE_US = 60_000_000
TRADE_COLUMNS = ("symbol", "exchange_us", "price", "quantity", "is_buyer_maker")
POINT_COLUMNS = ("symbol", "event_us")

F64 = read_only(types.float64)


@njit
def _add(sums, sign, by, quantity):
    """Add a quantity ``by`` = +1 times, or take it away again: signed, then unsigned, each in its two parts."""
    above, below = split(quantity[0], quantity[1])
    sums[0] += by * sign * above
    sums[1] += by * sign * below
    sums[2] += by * above
    sums[3] += by * below


@njit
def _imbalance(sums):
    """Signed over all volume; NaN without any."""
    total = sums[2] * 4294967296.0 + sums[3]
    return np.nan if total == 0 else (sums[0] * 4294967296.0 + sums[1]) / total


@njit([types.void(I64, I64, F64, I64, HALVES, types.float64[:, ::1])], cache=True)
def _flow(points, exchange, price, sign, quantity, out):
    """Row i of ``out``: imbalance of 1 and of 5 minutes, rv_1m. Points ascend, and so do trades."""
    sums = np.zeros((2, 4), np.int64)
    tails = np.zeros(2, np.int64)
    head = 0
    for i in range(points.size):
        while head < exchange.size and exchange[head] < points[i]:
            for w in range(2):
                _add(sums[w], sign[head], 1, quantity[head])
            head += 1
        for w in range(2):
            since = points[i] - (MINUTE_US if w == 0 else 5 * MINUTE_US)
            while tails[w] < head and exchange[tails[w]] < since:
                _add(sums[w], sign[tails[w]], -1, quantity[tails[w]])
                tails[w] += 1
            out[i, w] = _imbalance(sums[w])
        out[i, 2] = np.nan
        if head - tails[0] >= 2:
            total, rest = 0.0, 0.0
            for k in range(tails[0] + 1, head):
                total, e = two_sum(total, np.log(price[k] / price[k - 1]) ** 2)
                rest += e
            out[i, 2] = np.sqrt(total + rest)


def tape_flow(points: pa.Table, trades: pa.Table) -> pa.Table:
    """Imbalance of aggressors in the minute and the five minutes before each point, and how much the minute moved.

    A window is [t − w, t). signed_imbalance = Σ signed volume / Σ volume, a buyer that aggressed positive; rv_1m is the
    square root of Σ squared log returns from trade to trade within the window.

    Shapes:   ``points`` has `POINT_COLUMNS`, ``trades`` has `TRADE_COLUMNS`; the result is ``points`` with three
              columns in place of event_us.
    Units:    microseconds since 1970 UTC; price in quote per base (double), quantity in base asset (decimal).
    Ordering: points by (symbol, event_us), trades by (symbol, exchange_us, number); raises ValueError otherwise.
    Nulls:    imbalance without volume in its window, rv_1m below two trades: nothing is no calm.
    Exact:    sums of quantities are integers; a value hangs on the trades of its window alone.
    Cost:     O(points + trades), and the trades of each point's minute once more.
    Source:   spec/execution.md 5.4.
    """
    at, exchange = column(points, "event_us", np.int64), column(trades, "exchange_us", np.int64)
    price = column(trades, "price", np.float64)
    quantity = decimal_halves(trades["quantity"])
    sign = np.where(trades["is_buyer_maker"].to_numpy(zero_copy_only=False).astype(bool), -1, 1)
    out = np.full((len(at), 3), np.nan)
    of_trades = symbol_slices(trades, exchange)
    for symbol, rows in symbol_slices(points, at).items():
        of = of_trades.get(symbol, slice(0, 0))
        _flow(at[rows], exchange[of], price[of], sign[of], quantity[of], out[rows])
    kept = points.drop_columns(["event_us"])
    for i, name in enumerate(("signed_imbalance_1m", "signed_imbalance_5m", "rv_1m")):
        kept = kept.append_column(pa.field(name, pa.float64()), pa.array(out[:, i], from_pandas=True))
    return kept
