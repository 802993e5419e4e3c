"""Connections that break, locks, slow statements and kills: all of a snapshot lands, or nothing."""

import random
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from ingest.errors import RefusedFile, SourceUnreachable
from ingest.postgres import connection as postgres_connection
from ingest.postgres.load import ingest_postgres
from ingest.postgres.reader import Reader
from lake.windows import dataset_dir, date_parts, landed_dates, read_markers
from tests.fixtures.processes import fork
from tests.fixtures.s3 import CuttingProxy
from tests.unit.ingest_postgres import kit
from tests.unit.ingest_postgres.kit import Database
from tests.unit.ingest_windows import kit as rows_kit
from tests.unit.ingest_windows.kit import START
from tests.unit.ingest_windows.test_window_kills import count_steps

HOUR = timedelta(hours=1)


@pytest.fixture
def filled(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """300 events in 5 hours, read in small pages, an hour after the last."""
    monkeypatch.setattr("ingest.postgres.reader.FIRST_PAGE_ROWS", 20)
    monkeypatch.setattr("ingest.postgres.reader.MAX_PAGE_ROWS", 20)
    database.insert("events", kit.stamped(rows_kit.events(300, hours=5), seconds=0))
    kit.set_clock(monkeypatch, START + 6.5 * HOUR)
    return database


def test_a_connection_that_is_cut_is_read_again_from_the_start(
    filled: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    proxy = CuttingProxy(filled.server.port)
    monkeypatch.setenv("CUT", filled.server.dsn(filled.name, port=proxy.port))
    proxy.cuts = [20_000, 60_000]
    report = ingest_postgres(root, "events", "CUT")
    assert not proxy.cuts
    assert (report.exit_code, report.rows, len(kit.landed(root))) == (0, 300, 300)
    proxy.close()


def test_a_connection_that_is_always_cut_leaves_nothing(
    filled: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    proxy = CuttingProxy(filled.server.port)
    monkeypatch.setenv("CUT", filled.server.dsn(filled.name, port=proxy.port))
    proxy.cuts = [20_000] * 50
    with pytest.raises(SourceUnreachable, match="nothing was published"):
        ingest_postgres(root, "events", "CUT")
    assert len(proxy.cuts) == 46
    assert not kit.marker_files(root)
    assert not landed_dates(root, "events")
    proxy.close()


def test_a_session_that_the_administrator_ends_is_begun_again(
    filled: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    true_page, ended = Reader._page, []

    def page(self, start, end, after, limit):
        if after is not None and len(ended) < 2:
            ended.append(1)
            filled.execute("select pg_terminate_backend(%s, 5000)", [self.connection.info.backend_pid])
        return true_page(self, start, end, after, limit)

    monkeypatch.setattr(Reader, "_page", page)
    assert ingest_postgres(root, "events", "DSN").rows == 300
    assert len(ended) == 2


def test_a_lock_and_a_slow_statement_end_the_call(
    filled: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    other = filled.session()
    other.execute("lock table stop_events in access exclusive mode")
    with pytest.raises(SourceUnreachable, match="lock"):
        ingest_postgres(root, "events", "DSN")
    other.rollback()
    other.close()
    monkeypatch.setitem(postgres_connection._SETTINGS, "statement_timeout", "50ms")
    monkeypatch.setattr(Reader, "first_time", lambda self: self.connection.execute("select pg_sleep(5)"))
    with pytest.raises(SourceUnreachable, match="longer than 5 s"):
        ingest_postgres(root, "events", "DSN")
    assert not kit.marker_files(root)


def test_a_session_that_lost_its_settings_reads_nothing(
    filled: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    true_connect = psycopg.connect

    def pooled(*args, options: str, **more):
        return true_connect(*args, **more)

    monkeypatch.setattr(psycopg, "connect", pooled)
    with pytest.raises(SourceUnreachable, match="pooler"):
        ingest_postgres(root, "events", "DSN")


def test_two_calls_at_once_land_each_row_once(filled: Database, root: Path):
    def work() -> bool:
        return ingest_postgres(root, "events", "DSN").exit_code == 0

    assert [child.wait() for child in [fork(work), fork(work)]] == [0, 0]
    assert len(kit.landed(root)) == 300
    assert ingest_postgres(root, "events", "DSN").load.unchanged == 1


def test_a_policy_that_hides_rows_is_an_error_and_not_fewer_rows(filled: Database, root: Path):
    filled.execute("alter table stop_events enable row level security")
    with pytest.raises(SourceUnreachable):
        ingest_postgres(root, "events", "DSN")
    assert not kit.marker_files(root)


def test_bad_rows_are_kept_aside_up_to_a_share(filled: Database, root: Path):
    filled.execute("update stop_events set symbol = 'no' where ingested_at >= %s", [START + 4.9 * HOUR])
    bad = filled.execute("select count(*) from stop_events where symbol = 'no'").fetchone()[0]
    assert bad > 3
    with pytest.raises(RefusedFile, match=f"{bad} of 300 rows were bad .PATTERN {bad}."):
        ingest_postgres(root, "events", "DSN")
    assert not kit.marker_files(root)
    report = ingest_postgres(root, "events", "DSN", max_bad=0.5)
    assert (report.exit_code, report.load.rejected, len(kit.landed(root))) == (2, bad, 300 - bad)
    assert [m.reject_rows for m in read_markers(root, "events")] == [0, 0, 0, 0, bad, 0, 0]


def test_rows_of_a_table_without_a_key_are_all_read(filled: Database, root: Path):
    """Equal times and equal keys, on both sides of a page: the key alone would lose some of them."""
    filled.execute(
        "alter table stop_events drop constraint stop_events_pkey; alter table stop_events alter event_id drop not null"
    )
    filled.execute(
        "update stop_events set ingested_at = %s where ingested_at < %s", [START, START + 2 * HOUR]
    )
    filled.execute("insert into stop_events select * from stop_events where ingested_at = %s", [START])
    filled.execute("update stop_events set event_id = null where ctid = (select max(ctid) from stop_events)")
    count = filled.execute("select count(*) from stop_events").fetchone()[0]
    report = ingest_postgres(root, "events", "DSN", max_bad=0.5)
    assert (report.rows, report.unsealed) == (count, None)
    assert (len(kit.landed(root)), report.load.rejected) == (count - 1, 1)


def call(root: Path) -> None:
    ingest_postgres(root, "events", "DSN", end=START + 3 * HOUR)
    ingest_postgres(root, "events", "DSN")
    ingest_postgres(root, "orders", "DSN")


def kills(database: Database, tmp_path: Path, count: int) -> None:
    database.insert("orders", [rows_kit.order(n, START + timedelta(minutes=9 * n)) for n in range(30)])
    quiet = tmp_path / "quiet"
    steps_file = tmp_path / "steps"

    def undisturbed() -> bool:
        steps = count_steps(None)
        call(quiet)
        steps_file.write_text(str(steps()))
        return True

    assert fork(undisturbed).wait() == 0
    steps = int(steps_file.read_text())
    killed = 0
    for number in random.Random(count).sample(range(steps), count):  # noqa: S311 - which instants a test takes
        root = tmp_path / f"killed-{number}"

        def disturbed(root: Path = root, number: int = number) -> bool:
            count_steps(number)
            call(root)
            return True

        killed += fork(disturbed).wait() < 0
        call(root)
        for dataset in ("events", "orders"):
            assert rows_kit.windows(root, dataset) == rows_kit.windows(quiet, dataset), number
            named = {part.name for m in read_markers(root, dataset) for part in m.parts}
            there = {
                path.relative_to(dataset_dir(root, dataset)).as_posix()
                for date in landed_dates(root, dataset)
                for path in date_parts(root, dataset, date)
            }
            assert named == there, number
    assert killed > count // 2


def test_a_killed_call_ends_as_one_that_nobody_disturbed(filled: Database, tmp_path: Path):
    kills(filled, tmp_path, 3)


@pytest.mark.long
def test_a_killed_call_ends_as_one_that_nobody_disturbed_at_length(filled: Database, tmp_path: Path):
    kills(filled, tmp_path, 60)
