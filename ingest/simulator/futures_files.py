"""Sessions of ES into DBN files by UTC day of ``ts_recv``, with the faults that were asked for."""

from collections.abc import Iterator
from datetime import date

import numpy as np

from ingest.simulator import truth as truth_file
from ingest.simulator.clock import session_clock, utc_day, utc_midnight_ns
from ingest.simulator.contracts import Contract, contracts_of
from ingest.simulator.damage import Damage, resent, swapped_ids
from ingest.simulator.dbn import RTYPES, WORDS, DbnFile, folder_of
from ingest.simulator.faults import BROKEN_DELIVERIES, Faults
from ingest.simulator.ledger import Part, Publisher
from ingest.simulator.session import SessionStream

SCHEMAS = ("trades", "mbp-10")
TRADE_ACTION = ord("T")


def utc_days(session: date) -> tuple[date, date]:
    """The two UTC days that a session falls into."""
    clock = session_clock(session)
    return utc_day(clock.globex_open_ns), utc_day(clock.globex_close_ns - 1)


def futures_parts(session: date, faults: frozenset[str]) -> Iterator[Part]:
    """What the DBN files hold of a session: its rows in each schema and UTC day, and deliveries that are faults."""
    evening, day = utc_days(session)
    for schema in SCHEMAS:
        for utc in (evening, day):
            yield schema, utc, session, None
            if "redelivery" in faults:
                yield schema, utc, session, "redelivery"
    for fault in BROKEN_DELIVERIES:
        if fault in faults:
            yield "trades", day, session, fault


class FuturesWriter:
    """Splits sessions into files by UTC day of ts_recv. A file is complete when the last session of its day is over."""

    def __init__(self, publisher: Publisher, missing: set[Part], faults: Faults, seed: int):
        self._publisher, self._missing, self._faults, self._seed = publisher, missing, faults, seed
        self._open: dict[tuple[str, date, str | None], DbnFile] = {}

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
        faults = self._faults.of(session)
        sinks = [
            (utc, self._file(schema, utc, fault))
            for schema, utc, part_of, fault in sorted(self._missing, key=str)
            if part_of == session and schema in SCHEMAS
        ]
        if not sinks and recorder is None:
            return
        damage = Damage(self._seed, stream.clock, stream.contracts.front.instrument_id, faults)
        for block in damage.stream(_recorded(stream.blocks, recorder)):
            cut = int(np.searchsorted(block[:, 4], midnight_ns))
            for utc, part in ((evening, block[:cut]), (day, block[cut:])):
                files = [file for file_utc, file in sinks if file_utc == utc]
                if "id-reuse" in faults:
                    part = swapped_ids(part, _reused(utc, (session,)))  # noqa: PLW2901
                rows = {"mbp-10": damage.book(part), "trades": _trade_records(part)} if files else {}
                for file in files:
                    mine = rows[file.schema]
                    if file.fault == "redelivery":
                        mine = resent(mine)
                    elif file.fault == "wrong-sha256":
                        mine = mine[1:]  # other bytes than those of the file that is right
                    file.write(mine)
        later = {utc for _, utc, other, _ in self._missing if other > session}
        self._complete_days([utc for _, utc, _ in self._open if utc not in later])

    def finish(self) -> None:
        self._complete_days([utc for _, utc, _ in self._open])

    def _file(self, schema: str, utc: date, fault: str | None) -> DbnFile:
        key = schema, utc, fault
        if key not in self._open:
            folder = folder_of(self._publisher.ledger.root, schema)
            sessions = self._sessions(*key)
            reused = _reused(utc, sessions) if "id-reuse" in self._faults.dates else {}
            contracts = tuple(
                Contract(c.symbol, reused.get(c.instrument_id, c.instrument_id)) for c in _contracts(sessions)
            )
            self._open[key] = DbnFile(folder, schema, utc, contracts, fault)
        return self._open[key]

    def _sessions(self, schema: str, utc: date, fault: str | None) -> tuple[date, ...]:
        return tuple(sorted(s for *part, s, f in self._missing if (*part, f) == (schema, utc, fault)))

    def _complete_days(self, days: list[date]) -> None:
        for key in sorted((key for key in self._open if key[1] in days), key=str):
            file = self._open.pop(key)
            self._publisher.add(file, self._sessions(*key))
            file.finish()


def _recorded(blocks: Iterator[np.ndarray], recorder: truth_file.Recorder | None) -> Iterator[np.ndarray]:
    """The clean blocks, noted by the recorder as they pass."""
    for block in blocks:
        if recorder:
            recorder.add_block(block)
        yield block


def _reused(utc: date, sessions: tuple[date, ...]) -> dict[int, int]:
    """On every other UTC day front contract and spread have exchanged their instrument ids: old id → new id."""
    if utc.toordinal() % 2:
        return {}
    pairs = [(c.front.instrument_id, c.spread.instrument_id) for c in map(contracts_of, sessions)]
    return dict(pairs) | {spread: front for front, spread in pairs}


def _contracts(sessions: tuple[date, ...]) -> tuple[Contract, ...]:
    """The contracts of a file's sessions, once each, in order."""
    return tuple(dict.fromkeys(c for session in sorted(sessions) for c in contracts_of(session).all()))


def _trade_records(records: np.ndarray) -> np.ndarray:
    """(k, 6) trades records of the T records among (n, 46) mbp-10 records: the same fields without the levels."""
    trades = records[(records[:, 3] >> 32 & 0xFF) == TRADE_ACTION, : WORDS["trades"]].copy()
    trades[:, 0] = trades[:, 0] & ~0xFFFF | WORDS["trades"] * 2 | RTYPES["trades"] << 8
    return trades
