"""Which bronze files a reader may see."""

import json

import pytest

from lake import bronze
from tests.fixtures.bronze import Delivery, at_ns, make_bronze, print_at, write_receipt

NINE = at_ns("2025-12-15T09:10:00")
TEN = at_ns("2025-12-15T10:10:00")
NEXT_DAY = at_ns("2025-12-16T00:10:00")


def delivery(name: str, *instants: int, **other: object) -> Delivery:
    return Delivery(name, {"trades": [print_at(t, 27_200) for t in instants]}, **other)


def test_an_empty_root_has_no_files(tmp_path):
    assert bronze.visible_files(tmp_path) == []
    assert bronze.shared_hours([]) == set()


def test_a_delivery_appears_whole_with_its_receipt_and_only_then(tmp_path):
    waiting = delivery("waiting", NINE, TEN, NEXT_DAY, receipt=None)
    make_bronze(tmp_path, [waiting])
    assert bronze.visible_files(tmp_path) == []

    write_receipt(tmp_path, waiting, "landed")
    files = bronze.visible_files(tmp_path)
    assert [(f.date, f.hour, f.rows) for f in files] == [
        ("2025-12-15", 9, 1),
        ("2025-12-15", 10, 1),
        ("2025-12-16", 0, 1),
    ]
    assert all(f.path.is_file() and f.source_name == "futures_trades" for f in files)
    assert [f.ts_min_ns for f in files] == [f.ts_max_ns for f in files] == [NINE, TEN, NEXT_DAY]


@pytest.mark.parametrize(("status", "visible"), [("landed", 1), ("archived", 1), ("quarantined", 0)])
def test_the_receipt_status_decides(tmp_path, status, visible):
    make_bronze(tmp_path, [delivery("one", NINE, receipt=status)])
    assert len(bronze.visible_files(tmp_path)) == visible


def test_a_file_that_no_record_lists_is_not_there(tmp_path):
    make_bronze(tmp_path, [delivery("one", NINE)])
    part = bronze.visible_files(tmp_path)[0].path
    (part.parent / "part-0badc0de-000.parquet").write_bytes(part.read_bytes())
    assert [f.path for f in bronze.visible_files(tmp_path)] == [part]


def test_only_hours_of_several_deliveries_are_shared(tmp_path):
    make_bronze(tmp_path, [delivery("one", NINE, TEN), delivery("two", TEN, NEXT_DAY)])
    shared = bronze.shared_hours(bronze.visible_files(tmp_path))
    assert {(date, hour) for (_, _, date, hour) in shared} == {("2025-12-15", 10)}
    make_bronze(tmp_path, [delivery("other root", NINE, symbol="NQ")])
    shared = bronze.shared_hours(bronze.visible_files(tmp_path))
    assert {(key, hour) for (_, key, _, hour) in shared} == {("symbol=ES", 10)}


def test_the_order_of_landing_does_not_show(tmp_path):
    both = [delivery("one", NINE, TEN), delivery("two", TEN)]
    make_bronze(tmp_path / "a", both)
    make_bronze(tmp_path / "b", reversed(both))
    listed = [
        [f.path.relative_to(root) for f in bronze.visible_files(root)]
        for root in (tmp_path / "a", tmp_path / "b")
    ]
    assert listed[0] == listed[1]


def test_status_and_gaps_are_part_of_what_was_read(tmp_path):
    make_bronze(tmp_path, [delivery("one", NINE)])
    state = bronze.visible_files(tmp_path)[0].state
    record = next(tmp_path.glob("lake/bronze/futures/trades/_metadata/date=*/commit-*.json"))
    content = json.loads(record.read_text())
    for change in ({"status": "open"}, {"gaps": [{"from_ns": 1, "to_ns": 2}]}):
        record.write_text(json.dumps(content | change))
        assert bronze.visible_files(tmp_path)[0].state != state


# -- sources of one hour -----------------------------------------------------------------------------------------------


def read_sources(root) -> dict[int, set[str]]:
    """Sources that are read, by hour."""
    read: dict[int, set[str]] = {}
    for file in bronze.visible_files(root):
        if not file.is_superseded:
            read.setdefault(file.hour, set()).add(file.source)
    return read


@pytest.mark.parametrize("better", range(len(bronze.SOURCES) - 1))
def test_the_better_source_of_an_hour_is_read(tmp_path, better):
    first, second = bronze.SOURCES[better : better + 2]
    make_bronze(
        tmp_path,
        [delivery("b", NINE, TEN, source=second), delivery("a", NINE, source=first, receipt="landed")],
    )
    assert read_sources(tmp_path) == {9: {first}, 10: {second}}


def test_a_complete_source_goes_before_an_open_better_one(tmp_path):
    make_bronze(
        tmp_path,
        [
            delivery("a", NINE, TEN, source="databento_dbn", status="open"),
            delivery("b", NINE, source="sim"),
            delivery("c", TEN, source="sim", status="open"),
            delivery("unheard of", TEN, source="else", status="open"),
        ],
    )
    assert read_sources(tmp_path) == {9: {"sim"}, 10: {"databento_dbn"}}


def test_every_delivery_of_the_chosen_source_is_read_and_only_they_share_the_hour(tmp_path):
    make_bronze(
        tmp_path,
        [
            delivery("a", NINE, TEN, source="databento_dbn"),
            delivery("open", NINE, source="databento_dbn", status="open"),
            delivery("sim", NINE, TEN),
            delivery("not landed", TEN, source="databento_dbn", receipt=None),
        ],
    )
    files = bronze.visible_files(tmp_path)
    assert read_sources(tmp_path) == {9: {"databento_dbn"}, 10: {"databento_dbn"}}
    assert {hour for (*_, hour) in bronze.shared_hours(files)} == {9}


# -- what a delivery says of itself ------------------------------------------------------------------------------------


def gap(
    start_ns: int, end_ns: int, contract: str = "ESZ5", reason: str = "sequence", symbol: str = "ES"
) -> dict:
    return {
        "key": {"symbol": symbol}, "contract": contract, "from_ns": start_ns, "to_ns": end_ns, "reason": reason,
    }  # fmt: skip


def test_gaps_are_of_the_hours_that_are_read(tmp_path):
    """A gap over three hours is known in those whose file is read; a better source has the first without it."""
    over = gap(NINE + 5, TEN + bronze.HOUR_NS + 7)
    eleven = at_ns("2025-12-15T11:00:00")
    make_bronze(
        tmp_path,
        [
            delivery("a", NINE, TEN, TEN + bronze.HOUR_NS, gaps=[over, gap(TEN, TEN)]),
            delivery("b", NINE, source="databento_dbn"),
        ],
    )
    read = [f for f in bronze.visible_files(tmp_path) if not f.is_superseded]
    assert bronze.known(read)["gaps"] == [
        ("ESZ5", eleven - bronze.HOUR_NS, eleven),
        ("ESZ5", TEN, TEN),
        ("ESZ5", eleven, over["to_ns"]),
    ]
    assert bronze.known(read[:1]) == {"gaps": [], "f_last_absent": False}


def test_what_the_records_show_themselves_is_no_known_gap(tmp_path):
    gaps = [gap(NINE, NINE + 9, reason=reason) for reason in ("silence", "maybe_bad_book")]
    gaps += [gap(NINE, NINE + 9, symbol="NQ"), {"from_ns": NINE, "to_ns": NINE + 3}]
    make_bronze(tmp_path, [delivery("a", NINE, gaps=gaps)])
    assert bronze.known(bronze.visible_files(tmp_path))["gaps"] == [(None, NINE, NINE + 3)]


@pytest.mark.parametrize(
    ("shares", "absent"), [([0.0], True), ([0.0, 0.0], True), ([0.0, 0.4], False), ([None], False)]
)
def test_event_ends_are_absent_where_no_delivery_marks_one(tmp_path, shares, absent):
    made = [
        delivery(
            str(i), NINE,
            quality=[] if share is None else [
                {"key": {"symbol": "ES"}, "check": "f_last_share", "value": share, "verdict": "warn"},
                {"key": {"symbol": "NQ"}, "check": "f_last_share", "value": 1 - share, "verdict": "ok"},
            ],
        )
        for i, share in enumerate(shares)
    ]  # fmt: skip
    make_bronze(tmp_path, made)
    files = bronze.visible_files(tmp_path)
    assert bronze.known(files)["f_last_absent"] is absent
    assert all(("f_last_absent" in f.state) == f.f_last_absent for f in files)
