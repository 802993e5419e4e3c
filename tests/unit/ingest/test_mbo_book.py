"""The book rebuilt from orders: equal to the vendor's own, and to a slow book of plain dicts on random streams."""

from collections import Counter
from pathlib import Path

import databento_dbn
import numpy as np
import pytest

from ingest.errors import RefusedFile
from ingest.mbo_book import MBP10, RULES, MboBook
from tests.unit.ingest.dbn_kit import DAY_NS, HOUR_NS, UNDEF_PRICE
from tests.unit.ingest.test_dbn_real import vendor

MBO = np.dtype(databento_dbn.MBOMsg._dtypes)
VENDOR_MBP10 = np.dtype(databento_dbn.MBP10Msg._dtypes)
TICK = 250_000_000
LAST, SNAPSHOT = 128, 40


def rebuild(records: np.ndarray, block: int = 8192) -> tuple[np.ndarray, np.ndarray, MboBook]:
    """Records, their numbers, and the books after ``records`` in blocks."""
    book, made = MboBook(), [np.empty(0, MBP10)]
    for start in range(0, len(records), block):
        made.append(book.rebuild(records[start : start + block]).records.copy())
    together = np.concatenate(made)
    words = together.view(np.int64).reshape(len(together), -1)
    return np.ascontiguousarray(words[:, :-1]).reshape(-1).view(VENDOR_MBP10), words[:, -1].copy(), book


@pytest.mark.realdata
@pytest.mark.parametrize("block", [8192, 977])
def test_the_rebuilt_book_is_the_vendors_byte_for_byte(realdata: Path, block: int) -> None:
    folder = realdata / "databento" / "es_20231225"
    (orders,), (book,) = folder.glob("*.mbo.*"), folder.glob("*.mbp-10.*")
    made, rows, state = rebuild(vendor(orders), block)
    theirs = vendor(book)
    assert len(theirs) == 31_392
    for name in VENDOR_MBP10.names:
        np.testing.assert_array_equal(made[name], theirs[name], name)
    assert made.tobytes() == theirs.tobytes()
    assert (vendor(orders)["sequence"][rows] == theirs["sequence"]).all()
    assert state.counts == Counter(snapshots=1) | dict.fromkeys(set(state.counts) - {"snapshots"}, 0)


# -- an order book that anyone can follow ------------------------------------------------------------------------------


class SlowBook:
    """One instrument: orders in a dict, levels summed anew for each question."""

    def __init__(self) -> None:
        self.orders: dict[int, list] = {}  # id → [side, price, size]
        self.anchored = self.given = self.in_snapshot = False
        self.before: list | None = None
        self.recv = self.row = 0

    def better(self, side: str, price: int) -> int:
        prices = {p for s, p, _ in self.orders.values() if s == side}
        return sum(p > price if side == "B" else p < price for p in prices)

    def levels(self) -> list[tuple]:
        sides = []
        for side in "BA":
            prices = sorted({p for s, p, _ in self.orders.values() if s == side}, reverse=side == "B")[:10]
            of = [[z for s, q, z in self.orders.values() if (s, q) == (side, p)] for p in prices]
            filled = [(p, sum(z), len(z)) for p, z in zip(prices, of, strict=True)]
            sides.append(filled + [(UNDEF_PRICE, 0, 0)] * (10 - len(filled)))
        return [(*bid, *ask) for bid, ask in zip(*sides, strict=True)]

    def event(self, row: int, r: dict) -> list[tuple]:
        """What an event gives: (number of the record, record's own fields, levels)."""
        action, snapshot = r["action"], bool(r["flags"] & 32)
        given = []
        if action in "FN":
            return given
        if snapshot and action in "RA":
            if action == "R" or not self.in_snapshot or self.recv != r["ts_recv"]:
                if self.given and self.before is None:
                    self.before = self.levels()
                self.orders, self.anchored, self.in_snapshot, self.recv = {}, True, True, r["ts_recv"]
            self.row = row
            if action == "A":
                self.orders[r["order_id"]] = [r["side"], r["price"], r["size"]]
            return given
        if self.in_snapshot:
            self.in_snapshot = False
            if self.before not in (None, self.levels()):
                of_snapshot = {
                    "ts_event": min(r["ts_event"], self.recv), "ts_recv": self.recv, "price": UNDEF_PRICE, "size": 0,
                    "action": "A", "side": "N", "flags": 168, "depth": 0, "ts_in_delta": 0,
                }  # fmt: skip
                given.append((self.row, r | of_snapshot, self.levels()))
            self.before = None
        depth = old = 0
        if action == "R":
            self.orders, self.anchored = {}, True
        elif action != "T":
            order = self.orders.get(r["order_id"])
            if action == "C":
                if order is None:
                    assert self.anchored
                    return given
                order[2] -= min(r["size"], order[2])
                depth = old = self.better(order[0], order[1])
                if not order[2]:
                    del self.orders[r["order_id"]]
            else:
                assert order or action == "A" or self.anchored
                old = self.better(order[0], order[1]) if order else 10
                side = order[0] if order else r["side"]
                self.orders[r["order_id"]] = [side, r["price"], r["size"]]
                if not r["size"]:
                    del self.orders[r["order_id"]]
                depth = self.better(side, r["price"])
            if depth >= 10 and old >= 10:
                return given
        self.given = True
        given.append((row, r | {"depth": min(depth, 9)}, self.levels()))
        return given


FIELDS = (
    "publisher_id", "instrument_id", "ts_event", "price", "size", "action", "side", "flags", "ts_recv",
    "ts_in_delta", "sequence",
)  # fmt: skip


def slow(records: np.ndarray) -> list[tuple]:
    """The same as `rebuild`, as plain tuples."""
    books: dict[int, SlowBook] = {}
    names = MBO.names
    result = []
    for row, values in enumerate(records.tolist()):
        r = dict(zip(names, values, strict=True))
        r["action"], r["side"] = r["action"].decode(), r["side"].decode()
        book = books.setdefault(r["instrument_id"], SlowBook())
        for number, made, levels in book.event(row, r):
            result.append((number, *(made[f] for f in FIELDS), made["depth"], levels))
    return result


def fast(records: np.ndarray, block: int) -> tuple[list[tuple], MboBook]:
    made, rows, book = rebuild(records, block)
    result = []
    for number, r in zip(rows.tolist(), made, strict=True):
        assert (r["length"], r["rtype"]) == (92, 10)
        levels = [
            tuple(int(r[f"{side}_{what}_{k:02d}"]) for side in ("bid", "ask") for what in ("px", "sz", "ct"))
            for k in range(10)
        ]
        own = [r[f].decode() if f in ("action", "side") else int(r[f]) for f in FIELDS]
        result.append((number, *own, int(r["depth"]), levels))
    return result, book


def stream(seed: int, n: int, instruments: int = 3, ticks: int = 40) -> np.ndarray:
    """A random order stream: each instrument opens with a snapshot, and nothing forbids odd things later on."""
    rng = np.random.default_rng(seed)
    rows, now = [], DAY_NS
    live: list[dict[int, tuple]] = [{} for _ in range(instruments)]
    next_id = 1

    def put(instrument, action, order_id, price, size, side, flags, recv=None):
        rows.append(
            (14, 160, 1, 100 + instrument, now, order_id, price, size, flags, 0, action, side, recv or now + 900,
             int(rng.integers(-50, 20_000)), len(rows) // 2)
        )  # fmt: skip

    def new_order():
        side = "BA"[int(rng.integers(2))]
        sign = -1 if side == "B" else 1
        return side, (20_000 + sign * int(rng.integers(-1, ticks))) * TICK, int(rng.integers(1, 50))

    def snapshot(instrument, keep):
        nonlocal next_id
        recv = now + 1000
        put(instrument, "R", 0, UNDEF_PRICE, 0, "N", SNAPSHOT, recv)
        orders = dict(live[instrument]) if keep else {}
        if not keep:
            for _ in range(int(rng.integers(0, 60))):
                orders[next_id] = new_order()
                next_id += 1
        for order_id, (side, price, size) in orders.items():
            put(instrument, "A", order_id, price, size, side, SNAPSHOT, recv)
        live[instrument] = orders

    for instrument in range(instruments):
        snapshot(instrument, keep=False)
    while len(rows) < n:
        now += int(rng.integers(0, 5000))
        instrument = int(rng.integers(instruments))
        orders, flags = live[instrument], LAST if rng.random() < 0.9 else 0
        what, some = rng.random(), list(orders)[int(rng.integers(len(orders)))] if orders else None
        if what < 0.40 or some is None:
            orders[next_id] = side, price, size = new_order()
            put(instrument, "A", next_id, price, size, side, flags)
            next_id += 1
        elif what < 0.70:
            side, price, size = orders[some]
            taken = size if rng.random() < 0.8 else int(rng.integers(1, size + 3))
            put(instrument, "C", some, price, taken, side, flags)
            if taken >= size:
                del orders[some]
            else:
                orders[some] = side, price, size - taken
        elif what < 0.90:
            side, price, size = orders[some]
            _, price, size = (side, price, size + 1) if rng.random() < 0.3 else (side, *new_order()[1:])
            orders[some] = side, price, size
            put(instrument, "M", some, price, size, side, flags)
        elif what < 0.96:
            put(
                instrument,
                "TFN"[int(rng.integers(3))],
                some,
                orders[some][1],
                3,
                "BAN"[int(rng.integers(3))],
                0,
            )
        elif what < 0.985:
            side, price, size = new_order()
            action = "ACM"[int(rng.integers(3))]
            order_id = (
                some if action == "A" else next_id + 10**15
            )  # an add of a known order, events of unknown ones
            put(instrument, action, order_id, price, size, orders[some][0] if action == "A" else side, flags)
            if action != "C":
                orders[order_id] = (orders[some][0] if action == "A" else side), price, size
            next_id += 1
        elif what < 0.995:
            snapshot(instrument, keep=rng.random() < 0.5)
        else:
            put(instrument, "R", 0, UNDEF_PRICE, 0, "N", flags)
            orders.clear()
    return np.array([(*r[:10], r[10].encode(), r[11].encode(), *r[12:]) for r in rows], MBO)


@pytest.mark.parametrize("seed", range(6))
def test_random_streams_give_what_the_slow_book_gives(seed: int) -> None:
    records = stream(seed, 2500)
    made, book = fast(records, block=(8192, 61)[seed % 2])
    expected = slow(records)
    assert made == expected
    assert len(made) > 1000
    assert all(book.counts.values()), book.counts  # the stream met every odd thing
    assert any(r[1:][FIELDS.index("flags")] == 168 for r in made)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 140))
def test_more_random_streams(seed: int) -> None:
    records = stream(seed, 6000, instruments=1 + seed % 5, ticks=6 + seed % 60)
    assert fast(records, block=1 + 97 * (seed % 13))[0] == slow(records)


def test_tables_grow_with_live_orders_only() -> None:
    n = 20_000
    adds = np.zeros(n, MBO)
    adds["length"], adds["rtype"], adds["instrument_id"] = 14, 160, 7
    adds["action"], adds["side"], adds["size"] = b"A", b"B", 1
    adds["order_id"], adds["price"] = np.arange(n), 4000 * 10**9 - (np.arange(n) * 7919 % n) * TICK
    adds["flags"], adds["ts_event"], adds["ts_recv"] = LAST, DAY_NS + np.arange(n), DAY_NS + np.arange(n)
    cancels = adds.copy()
    cancels["action"] = b"C"
    book = MboBook()
    sizes = []
    for _ in range(4):
        for records in (adds, cancels):
            for start in range(0, n, 4096):
                last = book.rebuild(records[start : start + 4096])
        sizes.append(book.memory_bytes)
    assert int(last.records["bid_ct_00"][-1]) == 0
    assert len(set(sizes)) == 1
    # One order at a time, of many ids: the table of the first instant is enough.
    small = MboBook()
    pairs = np.stack([adds, cancels], axis=1).reshape(-1)
    small.rebuild(pairs[:4096])
    first = small.memory_bytes
    for start in range(4096, len(pairs), 4096):
        small.rebuild(pairs[start : start + 4096])
    assert small.memory_bytes == first


def test_cleared_books_leave_no_orders_behind() -> None:
    """A book cleared and filled again and again: its dead orders are swept when the table fills."""
    adds = stream(3, 400, instruments=1)
    adds = adds[adds["action"] == b"A"]
    clear = adds[:1].copy()
    clear["action"], clear["side"], clear["flags"], clear["price"] = b"R", b"N", LAST, UNDEF_PRICE
    once = np.concatenate([clear, adds])
    book = MboBook()
    sizes = []
    for i in range(200):
        again = once.copy()
        again["order_id"] += np.uint64(i * 10**6)
        book.rebuild(again)
        sizes.append(book.memory_bytes)
    assert sizes[-1] == sizes[1]
    assert book.counts["clears"] == 200


def event(action: str, order_id: int, *, flags: int = LAST, **more: object) -> np.ndarray:
    row = np.zeros(1, MBO)
    row["length"], row["rtype"], row["publisher_id"], row["instrument_id"] = 14, 160, 1, 17
    row["ts_event"], row["ts_recv"] = DAY_NS + 14 * HOUR_NS, DAY_NS + 14 * HOUR_NS + 10
    row["action"], row["side"], row["order_id"], row["flags"] = action.encode(), b"B", order_id, flags
    row["price"], row["size"] = 4800 * 10**9, 2
    for name, value in more.items():
        row[name] = value
    return row


@pytest.mark.parametrize("action", ["C", "M"])
def test_a_file_that_starts_inside_a_day_is_refused(action: str) -> None:
    records = np.concatenate([event("A", 1), event("T", 0), event(action, 99, size=1)])
    with pytest.raises(RefusedFile, match=r"record 2 was of order 99 of instrument 17, .* from 00:00 UTC"):
        MboBook().rebuild(records)


@pytest.mark.parametrize("opening", [event("R", 0), event("A", 5, flags=SNAPSHOT)])
def test_after_a_clear_or_a_snapshot_unknown_orders_are_counted(opening: np.ndarray) -> None:
    book = MboBook()
    made = book.rebuild(np.concatenate([opening, event("C", 99), event("M", 98, size=7)])).records
    assert (book.counts["unknown_cancels"], book.counts["unknown_modifies"]) == (1, 1)
    assert made["action"].tolist() == [ord("R")] * (opening["action"] == b"R").sum() + [ord("M")]
    assert int(made["bid_sz_00"][-1]) == 7 + (0 if opening["action"] == b"R" else 2)


def test_records_unfit_for_a_book_are_named_and_left_out() -> None:
    records = np.concatenate([
        event("A", 1), event("Z", 2), event("A", 2, side=b"N"), event("A", 2, price=UNDEF_PRICE),
        event("A", 2, price=10**18), event("A", 2, size=0), event("A", 2, size=2**31), event("A", 2, size=5),
    ])  # fmt: skip
    book = MboBook()
    book.rebuild(event("A", 10))
    result = book.rebuild(records)
    assert result.bad_rows.tolist() == [1, 2, 3, 4, 5, 6]
    assert [RULES[r] for r in result.bad_rules] == [
        "ACTION",
        "SIDE",
        "PRICE_RANGE",
        "PRICE_RANGE",
        "SIZE",
        "SIZE",
    ]
    assert result.records["ordinal"].tolist() == [1, 8]
    assert int(result.records["bid_sz_00"][-1]) == 9


def test_a_top_of_book_feed_is_refused() -> None:
    with pytest.raises(RefusedFile, match="record 1 was of the top of the book only"):
        MboBook().rebuild(np.concatenate([event("A", 1), event("A", 2, flags=LAST | 64)]))


def test_records_with_the_gateways_time_are_read_alike() -> None:
    plain = stream(11, 500)
    wide = np.zeros(len(plain), np.dtype([*((n, *MBO.fields[n][:1]) for n in MBO.names), ("ts_out", "<u8")]))
    for name in MBO.names:
        wide[name] = plain[name]
    assert wide.dtype.itemsize == 64
    assert fast(wide, 100)[0] == fast(plain, 100)[0]
