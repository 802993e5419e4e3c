"""An order-level limit order book that plays a tape plan and writes mbp-10 records straight into DBN's layout.

Every price holds a FIFO queue of orders, some of them icebergs. Orders are added, cancelled, modified and traded; each
such step that shows within ten levels of the best becomes one record with the ten levels after it (a trade: before
it), so that what was added, lost and filled is known exactly. Beyond ten levels the book lives unseen: a price that
comes into view is drawn afresh.

Barriers. Of every ROUND level and side a flag says how it will defend at the next touch from that side. Where it is
set, orders that show in the zone (level ± 8 ticks) are thin, and what comes into view there is pulled while the price
stands before the level. Where it isn't, orders are of natural size and the zone may be replenished, or the zone is
weak: few orders from the start, and nothing is pulled. A thin zone alone is thus no VACUUM. All of it follows from the
past and the flag, never from the path to come.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit, types

from ingest.simulator.clock import MINUTE_NS, SECOND_NS, SessionClock
from ingest.simulator.dbn import header_word
from ingest.simulator.levels import ROUND_TICKS
from ingest.simulator.plan import MOVE, TapePlan, activity, expected_moves, records_per_move

LEVELS = 10
WORDS = 46  # 8-byte words of an mbp-10 record
MAX_EVENT_RECORDS = 512  # room kept free for one step of `run`
MAX_ORDERS_PER_PRICE = 12
MARGIN_TICKS = 64  # prices kept beyond the range of the path
FIRST_LEVEL = 12  # 4-byte words before the first level; a level has 8: bid and ask price, sizes, counts
LOW_WORD = 0xFFFFFFFF
UNDEF_PRICE = 2**63 - 1
# Log-normal sizes in contracts: median, sigma, most.
LEVEL_SIZE, ORDER_SIZE, TRADE_SIZE = (42.0, 0.5, 400), (7.0, 0.8, 60), (3.0, 1.0, 120)
F_LAST, F_SNAPSHOT = 128, 32
ADD, CANCEL, MODIFY, CLEAR, TRADE = ord("A"), ord("C"), ord("M"), ord("R"), ord("T")
BID, ASK = 0, 1
SIDE_CODES = (ord("B"), ord("A"))
NONE_CODE = ord("N")

ZONE_TICKS = 8
APPROACH_TICKS = (5, 12)  # the price stands before a level when it is this far off
THIN_SIZE = 3  # largest size at a thin price
WEAK_AFTER_NS = (
    250 * SECOND_NS
)  # a weak zone needs a quiet window behind it, else what moved there looks like a pull
MAX_SILENCE_NS = 7_200 * SECOND_NS  # divided by the least number of orders an hour: twice the mean
CELL_NS = 100_000_000  # grid of observation points
MOVE_ROOM_NS = 4_000_000  # a move has to end inside its cell

# Registers of the book, int64.
(
    R_BASE,  # tick of price index 0
    R_TICK_NANO,  # price units (1e-9) of a tick
    R_ZONES,  # 1 when ROUND levels have barriers
    R_TARGET,  # records to write
    R_LEAST_FILLS,  # orders an hour that come whatever the budget says
    R_SIZE_PERCENT,  # sizes in percent of the front contract's
    R_OPEN_NS,
    R_END_NS,
    R_RNG,
    R_FREE,  # first order on the free list
    R_BEST_BID,  # index of the best bid, and of the best ask in the next
    R_BEST_ASK,
    R_SEEN_BID,  # index of the last bid price in view, and of the last ask price in the next
    R_SEEN_ASK,
    R_NOW,  # ts_event of the event under construction
    R_RECV,
    R_DELTA,
    R_SEQUENCE,
    R_OUT,  # records in the output
    R_BID,  # index of the market's bid: one below its ask
    R_EVENT,  # next event of the plan
    R_TOUCH,  # next touch of the plan
    R_FILL_NS,  # time of the next order that belongs to no plan
    R_BURST,  # 1 while orders come in a burst, which ends at the next register
    R_BURST_NS,
    R_WRITTEN,  # records so far; those of moves, trades and barriers among them; moves
    R_PLANNED,
    R_MOVES,
    R_OTHER,  # next record of other contracts
    R_STARTED,
    R_WORK_BID,  # barrier work in hand, WORK_REGISTERS a side
) = range(31)
(W_MODE, W_NEXT_NS, W_LEVEL, W_LEFT, W_LAST_NS, WORK_REGISTERS) = range(6)
REGISTERS = R_WORK_BID + 2 * WORK_REGISTERS
IDLE, PULL, REPLENISH = 0, 1, 2
# How the zone of a level is to be defended at the next touch; orders are thin where the number is odd.
NATURAL, VACUUM, WEAK_LATER, WEAK = 0, 1, 2, 3

# Fields of a price and of an order. Orders are named by their row, −1 is none.
(SIZE, COUNT, HEAD, TAIL, TARGET, REGIME, MARKET_NS, PRICE_FIELDS) = range(8)
(O_SIZE, O_HIDDEN, O_SHOW, O_NEXT, O_PREV, ORDER_FIELDS) = range(6)


class Book(NamedTuple):
    """The market of one contract in four arrays (a kernel with thirty would take minutes to compile).

    ``reg`` (REGISTERS,) int64. ``price`` (2, P, PRICE_FIELDS) int64 by side and price index: displayed size, orders,
    the queue's ends, the size that orders come and go around, the regime of its zone, and at a level itself when the
    market was last in its zone. ``order`` (M,
    ORDER_FIELDS) int64: displayed size, an iceberg's reserve and what it shows at a time, neighbours in the queue.
    One integer type throughout keeps the kernel to one compiled version of each function.
    ``rows`` (capacity + 1, 92) int32: the output as records of DBN; the last row is the record as it would be now.
    """

    reg: np.ndarray
    price: np.ndarray
    order: np.ndarray
    rows: np.ndarray


class Tape(NamedTuple):
    """The plan in arrays, see `plan.TapePlan`; ``touch_next_regime``: for the next touch of that level and side."""

    ts_ns: np.ndarray
    kind: np.ndarray
    to_index: np.ndarray
    aggressor: np.ndarray
    follows: np.ndarray
    touch_event: np.ndarray
    touch_level: np.ndarray
    touch_side: np.ndarray
    touch_next_regime: np.ndarray
    moves_left: np.ndarray  # (minutes + 1,) float64 expected
    activity: np.ndarray  # (minutes,) float64
    activity_left: np.ndarray  # (minutes,) float64
    move_records: float  # what a move is expected to cost before any was seen
    other: np.ndarray  # (k, 92) int32 records of other contracts, in order of time
    other_ns: np.ndarray  # (k,) their ts_event


# Signatures of the kernels: one compiled version of each, whatever constants it is called with.
INT, REAL, BOOL, VOID = types.int64, types.float64, types.boolean, types.void
INTS, REALS, ROWS = INT[::1], REAL[::1], types.int32[:, ::1]
BOOK = types.NamedTuple((INTS, INT[:, :, ::1], INT[:, ::1], ROWS), Book)
TAPE = types.NamedTuple(
    (INTS, INTS, INTS, INTS, BOOL[::1], INTS, INTS, INTS, INTS, REALS, REALS, REALS, REAL, ROWS, INTS), Tape
)


# --- random numbers ------------------------------------------------------------------------------------------------


@njit(INT(BOOK, INT), cache=True, error_model="numpy")
def _below(book, n):
    """A random integer in [0, n). Source: xorshift64*, Vigna 2016."""
    x = np.uint64(book.reg[R_RNG])
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    book.reg[R_RNG] = np.int64(x)
    return (np.int64((x * np.uint64(2685821657736338717)) >> np.uint64(32)) * n) >> 32


@njit(INT(BOOK, REAL), cache=True, error_model="numpy")
def _exponential(book, mean):
    return np.int64(-np.log((_below(book, 1 << 30) + 1.0) / (1 << 30)) * mean)


@njit(INT(BOOK, REAL, REAL, INT), cache=True, error_model="numpy")
def _size(book, median, sigma, most):
    """A log-normal size of at least 1; the normal is a sum of four uniforms, which is near enough for sizes."""
    z = 0.0
    for _ in range(4):
        z += _below(book, 1 << 20)
    z = (z / (1 << 20) - 2.0) * 1.7320508
    size = median * np.exp(sigma * z) * book.reg[R_SIZE_PERCENT] / 100.0
    return min(max(np.int64(size + 0.5), 1), most)


@njit(INT(BOOK, INT, INT), cache=True, error_model="numpy")
def _resting_size(book, side, p):
    """Size of an order that makes up a price by itself."""
    if book.price[side, p, REGIME] & 1:
        return 1 + _below(book, THIN_SIZE)
    return _size(book, *LEVEL_SIZE)


# --- queues --------------------------------------------------------------------------------------------------------


@njit(VOID(BOOK, INT, INT, INT), cache=True, error_model="numpy")
def _link(book, side, p, o):
    """Put an order at the end of the queue."""
    last = book.price[side, p, TAIL]
    book.order[o, O_PREV], book.order[o, O_NEXT] = last, -1
    if last >= 0:
        book.order[last, O_NEXT] = o
    else:
        book.price[side, p, HEAD] = o
    book.price[side, p, TAIL] = o


@njit(VOID(BOOK, INT, INT, INT), cache=True, error_model="numpy")
def _unlink(book, side, p, o):
    before, after = book.order[o, O_PREV], book.order[o, O_NEXT]
    if before >= 0:
        book.order[before, O_NEXT] = after
    else:
        book.price[side, p, HEAD] = after
    if after >= 0:
        book.order[after, O_PREV] = before
    else:
        book.price[side, p, TAIL] = before


@njit(VOID(BOOK, INT, INT, INT, INT), cache=True, error_model="numpy")
def _push(book, side, p, size, hidden):
    """A new order at the end of the queue."""
    o = book.reg[R_FREE]
    book.reg[R_FREE] = book.order[o, O_NEXT]
    book.order[o, O_SIZE], book.order[o, O_HIDDEN], book.order[o, O_SHOW] = size, hidden, size
    _link(book, side, p, o)
    book.price[side, p, SIZE] += size
    book.price[side, p, COUNT] += 1


@njit(VOID(BOOK, INT, INT, INT), cache=True, error_model="numpy")
def _drop(book, side, p, o):
    """Take an order out of the book."""
    _unlink(book, side, p, o)
    book.price[side, p, SIZE] -= book.order[o, O_SIZE]
    book.price[side, p, COUNT] -= 1
    book.order[o, O_NEXT] = book.reg[R_FREE]
    book.reg[R_FREE] = o


@njit(VOID(BOOK, INT, INT), cache=True, error_model="numpy")
def _settle(book, side, p):
    """Draw the orders of a price that nobody has seen for a while."""
    while book.price[side, p, HEAD] >= 0:
        _drop(book, side, p, book.price[side, p, HEAD])
    total = _size(book, *LEVEL_SIZE)
    book.price[side, p, TARGET] = total
    if book.price[side, p, REGIME] == WEAK:
        total = 1 + _below(book, THIN_SIZE)
    u = _below(book, 100)
    for _ in range(0 if u < 72 else 1 if u < 94 else 2):
        part = 1 + total * (20 + _below(book, 40)) // 100
        if part < total:
            _push(book, side, p, part, 0)
            total -= part
    _push(book, side, p, total, 0)


# --- records -------------------------------------------------------------------------------------------------------


@njit(VOID(BOOK, INT, BOOL), cache=True, error_model="numpy")
def _show(book, side, settle):
    """Write the ten levels of a side into the current record.

    With ``settle``, prices beyond the last view are drawn afresh on their way into it; without, the view ends there.
    """
    reg, price, row = book.reg, book.price[side], book.rows[-1]
    step = -1 if side == BID else 1
    p, seen, n = reg[R_BEST_BID + side], reg[R_SEEN_BID + side], 0
    last = p
    while n < LEVELS:
        if (p - seen) * step > 0:
            if not settle:
                break
            _settle(book, side, p)
        if price[p, SIZE] > 0:
            if n == 0:
                reg[R_BEST_BID + side] = p
            value, at = (reg[R_BASE] + p) * reg[R_TICK_NANO], FIRST_LEVEL + 8 * n
            row[at + 2 * side], row[at + 2 * side + 1] = value & LOW_WORD, value >> 32
            row[at + 4 + side], row[at + 6 + side] = price[p, SIZE], price[p, COUNT]
            n += 1
            last = p
        p += step
    if settle:
        reg[R_SEEN_BID + side] = last
    for k in range(n, LEVELS):
        at = FIRST_LEVEL + 8 * k
        row[at + 2 * side], row[at + 2 * side + 1] = UNDEF_PRICE & LOW_WORD, UNDEF_PRICE >> 32
        row[at + 4 + side], row[at + 6 + side] = 0, 0


@njit(VOID(BOOK, INT), cache=True, error_model="numpy")
def _begin(book, ts_ns):
    """Start an event: its time, its sequence, and when it will be received."""
    reg = book.reg
    reg[R_NOW] = max(ts_ns, reg[R_NOW] + 500)
    reg[R_SEQUENCE] += 1
    reg[R_DELTA] = 11_000 + _below(book, 9_000)
    reg[R_RECV] = max(reg[R_RECV], reg[R_NOW] + 60_000 + _below(book, 50_000))


@njit(VOID(BOOK, INT, INT, INT, INT), cache=True, error_model="numpy")
def _emit(book, p, size, kind, depth):
    """Write one record with the levels as shown.

    ``p`` < 0 has no price; ``kind`` is action | side << 8 | flags << 16.
    """
    reg = book.reg
    row, now = book.rows[reg[R_OUT]], book.rows[-1]
    for k in range(row.shape[0]):
        row[k] = now[k]
    value = (reg[R_BASE] + p) * reg[R_TICK_NANO] if p >= 0 else UNDEF_PRICE
    row[2], row[3] = reg[R_NOW] & LOW_WORD, reg[R_NOW] >> 32
    row[4], row[5] = value & LOW_WORD, value >> 32
    row[6], row[7] = size, kind | depth << 24
    row[8], row[9] = reg[R_RECV] & LOW_WORD, reg[R_RECV] >> 32
    row[10], row[11] = reg[R_DELTA], reg[R_SEQUENCE]
    reg[R_OUT] += 1


@njit(INT(INT), cache=True, error_model="numpy")
def _code(side):
    return (SIDE_CODES[0] if side == BID else SIDE_CODES[1]) << 8


@njit(VOID(BOOK), cache=True, error_model="numpy")
def _mark_last(book):
    """The latest record ends its event."""
    book.rows[book.reg[R_OUT] - 1, 7] |= F_LAST << 16


@njit(VOID(BOOK, INT, INT, INT, INT, INT, INT), cache=True, error_model="numpy")
def _single(book, ts_ns, action, side, p, o, size):
    """Event: one order within the view is added (``size``), cancelled (``o``) or modified (``o`` to ``size``).

    An order that grows loses its place in the queue. Some orders are icebergs.
    """
    reg, price = book.reg, book.price
    _begin(book, ts_ns)
    step = -1 if side == BID else 1
    if action == ADD:
        hidden = size * (1 + _below(book, 3)) if size > THIN_SIZE and _below(book, 1000) < 40 else 0
        if price[side, p, SIZE] == 0:
            price[side, p, TARGET] = max(_size(book, *LEVEL_SIZE), size)
            if (reg[R_BEST_BID + side] - p) * step > 0:
                reg[R_BEST_BID + side] = p
        _push(book, side, p, size, hidden)
    q, depth = reg[R_BEST_BID + side], 0
    while q != p and depth < LEVELS - 1:
        depth += np.int64(price[side, q, SIZE] > 0)
        q += step
    if action == CANCEL:
        size = book.order[o, O_SIZE]
        _drop(book, side, p, o)
    elif action == MODIFY:
        if size > book.order[o, O_SIZE]:
            _unlink(book, side, p, o)
            _link(book, side, p, o)
        price[side, p, SIZE] += size - book.order[o, O_SIZE]
        book.order[o, O_SIZE] = size
    _show(book, side, True)
    _emit(book, p, size, action | _code(side) | F_LAST << 16, depth)


@njit(VOID(BOOK, INT, INT, INT, INT), cache=True, error_model="numpy")
def _refill(book, ts_ns, side, p, least):
    """Have at least ``least`` contracts at a price."""
    if book.price[side, p, SIZE] < least:
        _single(book, ts_ns, ADD, side, p, -1, max(_resting_size(book, side, p), least))


# --- trades --------------------------------------------------------------------------------------------------------


@njit(VOID(BOOK, INT, INT, INT, INT, INT), cache=True, error_model="numpy")
def _take(book, ts_ns, side, first, n_prices, want):
    """Event: one aggressive order takes ``want`` contracts at its best price, or all there is at ``n_prices`` prices.

    The trades come first, with the book as it was; cancels and modifies that remove the size follow. An iceberg that
    is used up comes back at the end of its queue within the event, as long as the order is not yet satisfied.
    """
    price, order = book.price, book.order
    step = -1 if side == BID else 1
    _begin(book, ts_ns)
    sweep = want == 0
    for k in range(n_prices):
        p, total = first + step * k, 0
        o = price[side, p, HEAD]
        while o >= 0:
            total += order[o, O_SIZE] + order[o, O_HIDDEN]
            o = order[o, O_NEXT]
        if total > 0:
            _emit(book, p, total if sweep else want, TRADE | _code(1 - side), min(k, LEVELS - 1))
    for k in range(n_prices):
        p = first + step * k
        while price[side, p, HEAD] >= 0 and (sweep or want > 0):
            o = price[side, p, HEAD]
            size = order[o, O_SIZE]
            take = size if sweep else min(want, size)
            want -= take
            left = size - take
            if left == 0 and not sweep and order[o, O_HIDDEN] > 0:
                left = min(order[o, O_SHOW], order[o, O_HIDDEN])
                order[o, O_HIDDEN] -= left
                _unlink(book, side, p, o)
                _link(book, side, p, o)
            if left == 0:
                _drop(book, side, p, o)
            else:
                price[side, p, SIZE] += left - size
                order[o, O_SIZE] = left
            _show(book, side, True)
            if left == 0:
                _emit(book, p, take, CANCEL | _code(side), 0)
            else:
                _emit(book, p, left, MODIFY | _code(side), 0)
    _mark_last(book)


@njit(VOID(BOOK, INT, INT), cache=True, error_model="numpy")
def _trade(book, ts_ns, aggressor):
    """Event: a small aggressive order that leaves something at the best price."""
    side = ASK if aggressor > 0 else BID
    p = book.reg[R_BID] + side
    _refill(book, ts_ns - 1_000, side, p, 2)
    want = min(_size(book, *TRADE_SIZE), book.price[side, p, SIZE] - 1)
    _take(book, ts_ns, side, p, 1, want)


@njit(VOID(BOOK, INT, INT), cache=True, error_model="numpy")
def _move(book, ts_ns, to):
    """The market goes to bid ``to``: one side is traded or pulled away price by price, the other follows.

    It may begin with a sweep of some prices in one event and ends with a trade at the last price that goes, so the
    tape shows where the market went; in between makers step aside.
    """
    reg, price = book.reg, book.price
    way = 1 if to > reg[R_BID] else -1
    side = ASK if way > 0 else BID  # the side that gives way
    k, first = abs(to - reg[R_BID]), reg[R_BID] + side
    swept = 1 + _below(book, min(k - 1, 3)) if k > 1 and _below(book, 1000) < 250 else 0
    for q in range(k):
        p, t = first + way * q, reg[R_NOW] + 5_000 + _below(book, 20_000)
        if q == k - 1:
            _refill(book, max(ts_ns, t) - 1_000, side, p, 1)  # there must be something to trade at the end
            _take(book, max(ts_ns, t), side, p, 1, 0)
        elif q >= swept:
            while price[side, p, HEAD] >= 0:
                t = max(ts_ns, reg[R_NOW] + 2_000 + _below(book, 12_000))
                _single(book, t, CANCEL, side, p, price[side, p, HEAD], 0)
        elif q == 0:
            _take(book, max(ts_ns, t), side, p, swept, 0)
        # The price just left on one side is the next best of the other.
        _refill(book, reg[R_NOW] + 2_000 + _below(book, 12_000), 1 - side, p, 1)
    reg[R_BID] = to


# --- barriers ------------------------------------------------------------------------------------------------------


@njit(VOID(BOOK, INT, INT, INT), cache=True, error_model="numpy")
def _set_regime(book, side, level, regime):
    """Set how the ROUND level ``level`` (tick / 40) will defend at its next touch from this side."""
    p = level * ROUND_TICKS - book.reg[R_BASE]
    for q in range(max(p - ZONE_TICKS, 0), min(p + ZONE_TICKS + 1, book.price.shape[1])):
        book.price[side, q, REGIME] = regime


@njit(VOID(BOOK, INT), cache=True, error_model="numpy")
def _face_barriers(book, way):
    """After a move ``way`` ticks: stand before a level (and begin to pull or replenish it) or not any more."""
    reg = book.reg
    bid = reg[R_BASE] + reg[R_BID]
    near = (bid + ROUND_TICKS // 2) // ROUND_TICKS * ROUND_TICKS
    if abs(bid - near) <= ZONE_TICKS + 1:
        for side in range(2):
            book.price[side, near - reg[R_BASE], MARKET_NS] = reg[R_NOW]
    for side in range(2):
        work = reg[R_WORK_BID + side * WORK_REGISTERS : R_WORK_BID + (side + 1) * WORK_REGISTERS]
        if side == ASK:
            level = bid // ROUND_TICKS + 1
            distance = level * ROUND_TICKS - bid
        else:
            level = bid // ROUND_TICKS
            distance = bid + 1 - level * ROUND_TICKS
        centre = book.price[side, level * ROUND_TICKS - reg[R_BASE]]
        was_quiet = reg[R_NOW] - centre[MARKET_NS] > WEAK_AFTER_NS
        if centre[REGIME] == WEAK_LATER and was_quiet and distance > APPROACH_TICKS[1]:
            _set_regime(book, side, level, WEAK)
        if distance < APPROACH_TICKS[0] or distance > APPROACH_TICKS[1]:
            work[W_MODE] = IDLE
        elif (way > 0) == (side == ASK):
            work[W_LEVEL] = level
            work[W_NEXT_NS] = reg[R_NOW] + 5_000_000 + _below(book, 60_000_000)
            if centre[REGIME] == VACUUM:
                work[W_MODE] = PULL
            elif centre[REGIME] != WEAK and reg[R_NOW] - work[W_LAST_NS] > 15 * SECOND_NS:
                work[W_MODE] = REPLENISH
                work[W_LEFT] = 40 + _below(book, 160)
                work[W_LAST_NS] = reg[R_NOW]


@njit(VOID(BOOK, INT), cache=True, error_model="numpy")
def _work_barrier(book, side):
    """One order of the work in hand at a level: its zone, as far as it is in view, loses or gains."""
    reg, price = book.reg, book.price[side]
    work = reg[R_WORK_BID + side * WORK_REGISTERS : R_WORK_BID + (side + 1) * WORK_REGISTERS]
    ts = work[W_NEXT_NS]
    work[W_NEXT_NS] = ts + 5_000_000 + _exponential(book, 45_000_000.0)
    best, seen = reg[R_BEST_BID + side], reg[R_SEEN_BID + side]
    middle = work[W_LEVEL] * ROUND_TICKS - reg[R_BASE]
    low, high = max(min(best, seen), middle - ZONE_TICKS), min(max(best, seen), middle + ZONE_TICKS)
    p, o, size, action = low, -1, 0, MODIFY
    if work[W_MODE] == PULL:
        # From the price next to the market outwards, until only thin orders are left.
        step = -1 if side == BID else 1
        p = low if step > 0 else high
        while low <= p <= high and price[p, SIZE] <= THIN_SIZE:
            p += step
        if p < low or p > high:
            work[W_MODE] = IDLE
            return
        o = price[p, HEAD]
        if price[p, COUNT] > 1:
            action = CANCEL
        size = 1 + _below(book, THIN_SIZE)
    else:
        action, size = ADD, 12 + _below(book, 28)
        work[W_LEFT] -= size
        if work[W_LEFT] <= 0 or low > high:
            work[W_MODE] = IDLE
        if low > high:
            return
        p = low + _below(book, high - low + 1)
        if price[p, COUNT] >= MAX_ORDERS_PER_PRICE:
            return
    _single(book, ts, action, side, p, o, size)


# --- orders of everybody else --------------------------------------------------------------------------------------


@njit(VOID(BOOK, INT), cache=True, error_model="numpy")
def _fill(book, ts_ns):
    """Event: somebody adds, cancels or changes an order near the best; sizes wander around each price's target."""
    reg, order = book.reg, book.order
    side = _below(book, 2)
    p, o, size, action = reg[R_BID] + side, -1, 0, ADD
    if book.price[side, p, SIZE] == 0:  # a best price that emptied is soon taken by somebody
        _single(book, ts_ns, ADD, side, p, -1, _resting_size(book, side, p))
        return
    for attempt in range(5):
        side = _below(book, 2)
        step = -1 if side == BID else 1
        p = reg[R_BEST_BID + side] + step * min(_below(book, LEVELS), _below(book, LEVELS))
        if attempt == 4:
            p = reg[R_BEST_BID + side]  # a change that can always be made, if all else is thin
        elif (reg[R_SEEN_BID + side] - p) * step < 0 or (
            book.price[side, p, REGIME] & 1 and _below(book, 10) > 0
        ):
            continue
        break
    price = book.price[side, p]
    total, target, count = price[SIZE], price[TARGET], price[COUNT]
    o = price[HEAD]
    if price[REGIME] & 1 or attempt == 4:
        if total == 0:
            size = 1
        else:
            action = MODIFY
            size = order[o, O_SIZE] + (1 if order[o, O_SIZE] < 2 else -1)
    else:
        u = _below(book, 1000)
        if total == 0 or (total * 10 < target * 6 and count < MAX_ORDERS_PER_PRICE):
            u = 0
        elif total * 10 > target * 15 or count >= MAX_ORDERS_PER_PRICE:
            u = 500
        if u < 430:
            size = _size(book, *ORDER_SIZE)
        else:
            for _ in range(_below(book, count)):
                o = order[o, O_NEXT]
            own = order[o, O_SIZE]
            # The last order of a price stays, but now and then the best price empties and the spread is two ticks.
            if u < 830 and (count > 1 or (p == reg[R_BID] + side and 500 < u < 505)):
                action = CANCEL
            else:
                action = MODIFY
                size = own - 1 - _below(book, own // 2) if own > 1 and u < 915 else own + 1 + _below(book, 6)
    _single(book, ts_ns, action, side, p, o, size)


@njit(VOID(BOOK, TAPE), cache=True, error_model="numpy")
def _plan_fill(book, tape):
    """Choose when the next such order comes: what the record budget leaves, by the time of day, in bursts.

    The budget counts on the moves that are to be expected, not on those that will come.
    """
    reg = book.reg
    now = reg[R_NOW]
    minute = min(max((now - reg[R_OPEN_NS]) // MINUTE_NS, 0), tape.activity.shape[0] - 1)
    cost = (reg[R_PLANNED] + 50.0 * tape.move_records) / (reg[R_MOVES] + 50.0)
    budget = reg[R_TARGET] - reg[R_WRITTEN] - cost * tape.moves_left[minute]
    per_minute = max(budget * tape.activity[minute] / tape.activity_left[minute], reg[R_LEAST_FILLS] / 60.0)
    if now >= reg[R_BURST_NS]:
        reg[R_BURST] = 1 - reg[R_BURST]
        reg[R_BURST_NS] = now + _exponential(book, 2.0e9 if reg[R_BURST] == 1 else 2.0e10)
    mean_ns = MINUTE_NS / (per_minute * (3.0 if reg[R_BURST] == 1 else 0.8))
    reg[R_FILL_NS] = now + min(_exponential(book, mean_ns) + 1_000, MAX_SILENCE_NS // reg[R_LEAST_FILLS])


# --- the session ---------------------------------------------------------------------------------------------------


@njit(VOID(BOOK), cache=True, error_model="numpy")
def _open(book):
    """The snapshot at the session's open, one event: a clear, then the orders of ten levels a side."""
    reg = book.reg
    _begin(book, reg[R_OPEN_NS] + 1_000_000)
    for side in range(2):
        reg[R_BEST_BID + side] = reg[R_BID] + side
        reg[R_SEEN_BID + side] = reg[R_BID] + side + (1 if side == BID else -1)
        _show(book, side, False)
    _emit(book, -1, 0, CLEAR | NONE_CODE << 8 | F_SNAPSHOT << 16, 0)
    for k in range(LEVELS):
        for side in range(2):
            p = reg[R_BID] + side + (-k if side == BID else k)
            size = _size(book, *LEVEL_SIZE)
            book.price[side, p, TARGET] = size
            _push(book, side, p, size, 0)
            reg[R_SEEN_BID + side] = p
            _show(book, side, False)
            _emit(book, p, size, ADD | _code(side) | F_SNAPSHOT << 16, k)
    _mark_last(book)


@njit(VOID(BOOK, TAPE), cache=True, error_model="numpy")
def _copy_other(book, tape):
    """Pass on one event of another contract, in the sequence of this file."""
    reg = book.reg
    _begin(book, tape.other_ns[reg[R_OTHER]])
    is_last = False
    while not is_last:
        row, record = book.rows[reg[R_OUT]], tape.other[reg[R_OTHER]]
        for k in range(row.shape[0]):
            row[k] = record[k]
        row[2], row[3] = reg[R_NOW] & LOW_WORD, reg[R_NOW] >> 32
        row[8], row[9] = reg[R_RECV] & LOW_WORD, reg[R_RECV] >> 32
        row[10], row[11] = reg[R_DELTA], reg[R_SEQUENCE]
        is_last = row[7] >> 16 & F_LAST != 0
        reg[R_OUT] += 1
        reg[R_OTHER] += 1


@njit(VOID(BOOK, TAPE), cache=True, error_model="numpy")
def _play_event(book, tape):
    """The next event of the plan, then what it changes for the barriers."""
    reg = book.reg
    i = reg[R_EVENT]
    reg[R_EVENT] = i + 1
    ts, way = tape.ts_ns[i], 0
    if tape.kind[i] == MOVE:
        # A move ends within its cell of the observation grid: as of no instant is half of one known.
        ts = min(ts, (ts // CELL_NS + 1) * CELL_NS - MOVE_ROOM_NS)
        way = tape.to_index[i] - reg[R_BID]
        _move(book, ts, tape.to_index[i])
        reg[R_MOVES] += 1
    if tape.kind[i] != MOVE or tape.follows[i]:
        after = reg[R_NOW] + 20_000 + _below(book, 100_000) if tape.kind[i] == MOVE else ts
        _trade(book, after, tape.aggressor[i])
    while reg[R_TOUCH] < tape.touch_event.shape[0] and tape.touch_event[reg[R_TOUCH]] == i:
        k = reg[R_TOUCH]
        _set_regime(book, tape.touch_side[k], tape.touch_level[k], tape.touch_next_regime[k])
        reg[R_TOUCH] = k + 1
    if way != 0 and reg[R_ZONES] == 1:
        _face_barriers(book, way)


@njit(BOOL(BOOK, TAPE), cache=True, error_model="numpy")
def run(book, tape):
    """Play the session until the output is nearly full or the session is over; return True when it is over.

    ``book.rows`` then holds ``book.reg[R_OUT]`` records in order of ts_event and ts_recv; the caller copies them away,
    sets the register to 0 and calls again. Each step writes fewer than MAX_EVENT_RECORDS records, and no event is cut
    between two calls. A session opens with its snapshot; the best bid is below the best ask at every F_LAST record,
    and all sizes shown are at least 1.
    """
    reg, never = book.reg, np.int64(2**62)
    if reg[R_STARTED] == 0:
        reg[R_STARTED] = 1
        _open(book)
        reg[R_WRITTEN] += reg[R_OUT]
        _plan_fill(book, tape)
    while reg[R_OUT] + MAX_EVENT_RECORDS < book.rows.shape[0]:
        planned = tape.ts_ns[reg[R_EVENT]] if reg[R_EVENT] < tape.ts_ns.shape[0] else never
        other = tape.other_ns[reg[R_OTHER]] if reg[R_OTHER] < tape.other_ns.shape[0] else never
        fill = reg[R_FILL_NS] if reg[R_FILL_NS] < reg[R_END_NS] else never
        work, worker = never, 0
        for side in range(2):
            at = R_WORK_BID + side * WORK_REGISTERS
            if reg[at + W_MODE] != IDLE and reg[at + W_NEXT_NS] < work:
                work, worker = reg[at + W_NEXT_NS], side
        soonest = min(planned, other, fill, work)
        if soonest == never:
            return True
        before = reg[R_OUT]
        if other == soonest:
            _copy_other(book, tape)
            continue
        if planned == soonest:
            _play_event(book, tape)
        elif work == soonest:
            _work_barrier(book, worker)
        else:
            _fill(book, fill)
            _plan_fill(book, tape)
        reg[R_WRITTEN] += reg[R_OUT] - before
        if soonest in (planned, work):
            reg[R_PLANNED] += reg[R_OUT] - before
    return False


# --- Python's side -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Market:
    """A contract as the book sees it: a price is its tick · ``tick_nano`` · 1e-9."""

    instrument_id: int
    tick_nano: int
    target_records: int
    least_fills_per_hour: int
    size_percent: int
    has_barriers: bool


def new_book(
    market: Market,
    clock: SessionClock,
    start_tick: int,
    tick_range: tuple[int, int],
    rng: np.random.Generator,
    capacity: int,
) -> Book:
    """An empty book of one session, ready for `run`. ``tick_range``: lowest and highest best bid it will see."""
    base = tick_range[0] - MARGIN_TICKS
    prices = tick_range[1] + MARGIN_TICKS - base
    price = np.zeros((2, prices, PRICE_FIELDS), np.int64)
    price[:, :, HEAD] = price[:, :, TAIL] = -1
    order = np.zeros((2 * prices * MAX_ORDERS_PER_PRICE, ORDER_FIELDS), np.int64)
    order[:, O_NEXT] = np.arange(1, len(order) + 1)
    rows = np.zeros((capacity + 1, 2 * WORDS), np.int32)
    rows.view(np.int64)[-1, 0] = header_word("mbp-10", market.instrument_id)
    reg = np.zeros(REGISTERS, np.int64)
    reg[R_BASE], reg[R_TICK_NANO], reg[R_ZONES] = base, market.tick_nano, market.has_barriers
    reg[R_TARGET], reg[R_LEAST_FILLS] = market.target_records, market.least_fills_per_hour
    reg[R_OPEN_NS], reg[R_END_NS] = clock.globex_open_ns, clock.globex_close_ns - SECOND_NS
    reg[R_SIZE_PERCENT], reg[R_RNG] = market.size_percent, rng.integers(1, 2**63 - 1)
    reg[R_BID], reg[R_SEQUENCE] = start_tick - base, 1_000
    return Book(reg, price, order, rows)


def set_regimes(book: Book, first_level: int, regimes: np.ndarray) -> None:
    """Regimes of the first touch of each side and level: (2, L), levels from ``first_level`` (tick / 40) on."""
    for side, level in np.argwhere(regimes):
        _set_regime(book, side, first_level + level, regimes[side, level])


def new_tape(
    plan: TapePlan, clock: SessionClock, book: Book, next_regimes: np.ndarray, other: np.ndarray
) -> Tape:
    """The plan as the kernel reads it; ``next_regimes`` (m,) and ``other`` (k, 46) int64 as in `Tape`."""
    weight = activity(clock)
    return Tape(
        ts_ns=plan.ts_ns,
        kind=plan.kind.astype(np.int64),
        to_index=plan.to_tick - book.reg[R_BASE],
        aggressor=plan.aggressor.astype(np.int64),
        follows=plan.follows,
        touch_event=plan.touch_event,
        touch_level=plan.touch_level,
        touch_side=np.where(plan.touch_direction > 0, ASK, BID),
        touch_next_regime=next_regimes,
        moves_left=expected_moves(clock, plan.lattice_ticks),
        activity=weight,
        activity_left=np.cumsum(weight[::-1])[::-1].copy(),
        move_records=records_per_move(plan.lattice_ticks),
        other=other.view(np.int32),
        other_ns=other[:, 1].copy(),
    )
