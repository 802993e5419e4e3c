"""Sessions of ES into DBN files by UTC day of ``ts_recv``."""

from datetime import date

import numpy as np

from ingest.simulator import truth as truth_file
from ingest.simulator.clock import session_clock, utc_day, utc_midnight_ns
from ingest.simulator.contracts import Contract, contracts_of
from ingest.simulator.dbn import RTYPES, WORDS, DbnFile, folder_of
from ingest.simulator.ledger import Publisher
from ingest.simulator.session import SessionStream

SCHEMAS = ("trades", "mbp-10")
TRADE_ACTION = ord("T")


def utc_days(session: date) -> tuple[date, date]:
    """The two UTC days that a session falls into."""
    clock = session_clock(session)
    return utc_day(clock.globex_open_ns), utc_day(clock.globex_close_ns - 1)


class FuturesWriter:
    """Splits sessions into files by UTC day of ts_recv. A file is complete when the last session of its day is over."""

    def __init__(self, publisher: Publisher, missing: set[tuple[str, date, date]]):
        self._publisher, self._missing = publisher, missing
        self._open: dict[tuple[str, date], DbnFile] = {}

    def __enter__(self) -> "FuturesWriter":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.discard()

    def write_session(
        self, session: date, stream: SessionStream, recorder: truth_file.Recorder | None
    ) -> None:
        evening, day = utc_days(session)
        midnight_ns = utc_midnight_ns(day)
        sinks = {
            (schema, utc): self._file(schema, utc)
            for schema in SCHEMAS
            for utc in (evening, day)
            if (schema, utc, session) in self._missing
        }
        if not sinks and recorder is None:
            return
        for block in stream.blocks:
            cut = int(np.searchsorted(block[:, 4], midnight_ns))
            for utc, part in ((evening, block[:cut]), (day, block[cut:])):
                if file := sinks.get(("mbp-10", utc)):
                    file.write(part)
                if file := sinks.get(("trades", utc)):
                    file.write(_trade_records(part))
            if recorder:
                recorder.add_block(block)
        later = {utc for _, utc, other in self._missing if other > session}
        self._complete_days([utc for _, utc in self._open if utc not in later])

    def finish(self) -> None:
        self._complete_days([utc for _, utc in self._open])

    def _file(self, schema: str, utc: date) -> DbnFile:
        if (schema, utc) not in self._open:
            folder = folder_of(self._publisher.ledger.root, schema)
            self._open[schema, utc] = DbnFile(folder, schema, utc, _contracts(self._sessions(schema, utc)))
        return self._open[schema, utc]

    def _sessions(self, schema: str, utc: date) -> tuple[date, ...]:
        return tuple(sorted(s for part, day, s in self._missing if (part, day) == (schema, utc)))

    def _complete_days(self, days: list[date]) -> None:
        for key in [key for key in self._open if key[1] in days]:
            file = self._open.pop(key)
            self._publisher.add(file, self._sessions(*key))
            file.finish()


def _contracts(sessions: list[date]) -> tuple[Contract, ...]:
    """The contracts of a file's sessions, once each, in order."""
    return tuple(dict.fromkeys(c for session in sorted(sessions) for c in contracts_of(session).all()))


def _trade_records(records: np.ndarray) -> np.ndarray:
    """(k, 6) trades records of the T records among (n, 46) mbp-10 records: the same fields without the levels."""
    trades = records[(records[:, 3] >> 32 & 0xFF) == TRADE_ACTION, : WORDS["trades"]].copy()
    trades[:, 0] = trades[:, 0] & ~0xFFFF | WORDS["trades"] * 2 | RTYPES["trades"] << 8
    return trades
