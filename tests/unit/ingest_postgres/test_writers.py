"""Writers that keep inserting and commit late, while windows are read and sealed: every row lands exactly once.

A second of the test is two hours of the writers and of the fence, so that windows end while transactions are open.
"""

import random
import threading
import time
import uuid
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ingest.postgres import load as postgres_load
from ingest.postgres import reader
from ingest.postgres.load import ingest_postgres
from tests.unit.ingest_postgres import kit
from tests.unit.ingest_postgres.kit import Database
from tests.unit.ingest_windows import kit as rows_kit
from tests.unit.ingest_windows.kit import START

SPEED = 2 * 3600


class Writers:
    """Transactions of random length; ``committed`` holds the ids of those that ended well."""

    def __init__(self, database: Database, count: int, seed: int) -> None:
        self.database, self.committed = database, set()
        self.began = database.execute("select clock_timestamp()").fetchone()[0]
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(random.Random(seed * 100 + n),))  # noqa: S311 - of a test
            for n in range(count)
        ]
        self.errors: list[BaseException] = []
        for thread in self._threads:
            thread.start()

    def virtual(self, when: datetime) -> datetime:
        return START + (when - self.began) * SPEED

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)
        assert not self.errors

    def _write(self, rng: random.Random) -> None:
        try:
            with self.database.session() as connection:
                while not self._stop.is_set():
                    # The database stamps a row with the time its transaction began, or with that of the statement.
                    mine = set()
                    for _ in range(rng.randrange(1, 4)):
                        clock = rng.choice(("now()", "clock_timestamp()"))
                        at = self.virtual(connection.execute(f"select {clock}").fetchone()[0])
                        row = rows_kit.event(rng.randrange(10**9), at, ingested_at=rows_kit.instant(at))
                        row["event_id"] = str(uuid.UUID(int=rng.getrandbits(128)))
                        self.database.insert("events", [row], connection)
                        mine.add(row["event_id"])
                        time.sleep(rng.choice((0, 0.01, 0.1, 0.4)))
                    if rng.random() < 0.15:
                        connection.rollback()
                    else:
                        connection.commit()
                        self.committed |= mine
        except BaseException as error:  # told by whoever stops the writers
            self.errors.append(error)


def sealed_rows(root: Path) -> int:
    return sum(rows for state, rows in kit.states(root).values() if state == "sealed")


def run(database: Database, root: Path, monkeypatch: pytest.MonkeyPatch, calls: int, seed: int) -> None:
    monkeypatch.setattr("ingest.postgres.reader.FIRST_PAGE_ROWS", 10)
    # On a busy machine a transaction shows among the active ones some milliseconds after its clock has started.
    monkeypatch.setattr(postgres_load, "SETTLE", timedelta(minutes=30))
    true_fence = reader.read_fence
    writers = Writers(database, 3, seed)

    def read_fence(connection):
        fence = true_fence(connection)
        return reader.Fence(writers.virtual(fence.now), writers.virtual(fence.quiet_before), fence.reason)

    monkeypatch.setattr(postgres_load.source_reader, "read_fence", read_fence)
    held_back = 0
    try:
        time.sleep(0.5)
        done = 0
        while done < calls or (sealed_rows(root) < 6 and done < 500):
            report = ingest_postgres(root, "events", "DSN")
            done += 1
            held_back += report.unsealed is not None
            assert report.exit_code == 0
            assert report.load.late_rows == 0
        assert sealed_rows(root) > 5, "no window was sealed while rows were written"
    finally:
        writers.stop()
    ingest_postgres(root, "events", "DSN")
    assert Counter(row["event_id"] for row in kit.landed(root)) == Counter(writers.committed)
    assert held_back or calls < 20

    # A writer that stamps its rows with times that have passed gets past any fence: a call with bounds finds them.
    late = [rows_kit.event(10**9 + n, START + timedelta(minutes=10 * n)) for n in range(4)]
    database.insert("events", kit.stamped(late, seconds=0))
    assert ingest_postgres(root, "events", "DSN", start=START).load.late_rows == 4
    everything = Counter([*writers.committed, *(row["event_id"] for row in late)])
    assert Counter(row["event_id"] for row in kit.landed(root)) == everything


def test_every_committed_row_lands_once(database: Database, root: Path, monkeypatch: pytest.MonkeyPatch):
    run(database, root, monkeypatch, 8, 1)


@pytest.mark.long
def test_every_committed_row_lands_once_at_length(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
):
    run(database, root, monkeypatch, 120, 2)
