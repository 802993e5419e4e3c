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
