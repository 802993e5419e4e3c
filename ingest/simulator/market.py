"""`tickhouse simulate market`: a market in the vendor's own file formats, with a truth that is known.

Files. A session D runs from 18:00 New York time of the day before to 17:00 of D, so it falls into two UTC days;
a vendor's file holds the UTC day of ``ts_recv``. Each session is simulated on its own from (seed, date, scale,
profile) and written into the files of its two UTC days; a file holds the parts of those sessions that were asked
for. Raw files are written once: when a later call adds a session whose day already has its file, the added part
becomes a second file of that day, named as ingest names a delivery whose name is taken (``….trades.<sha256 8>
.dbn.zst``). All files together hold every session part exactly once, whatever the order of the calls.

Futures only so far. Options and stocks join in `_feeds`: one writer per provider, fed by the same sessions.
"""

import json
import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from filelock import FileLock

from ingest.simulator import truth as truth_file
from ingest.simulator.clock import session_clock, trading_sessions, utc_day, utc_midnight_ns
from ingest.simulator.contracts import Contract, contracts_of
from ingest.simulator.dbn import FOLDERS, RTYPES, TEMP_PREFIX, WORDS, DbnFile, vendor_name
from ingest.simulator.session import SessionStream, open_session
from lake import atomic
from lake.commits import now_utc
from lake.runs import new_run_id, write_run

SIMULATION_VERSION = 1
DEMO_SCALE = (
    0.02  # 160,000 mbp-10 records a session; below about 0.016 the moves alone cost more than the scale
)
DEMO_DATES = tuple(
    trading_sessions(date(2025, 10, 6), date(2025, 10, 31))
)  # 20 full sessions of one contract
Profile = Literal["default", "null", "planted"]
TRADE_ACTION = ord("T")
SCHEMAS = ("trades", "mbp-10")
PUBLISH_BYTES = 256 << 20


class SimulationError(ValueError):
    """The request can't be met: what was expected, what it was, what to do."""


@dataclass(frozen=True)
class SimulatedFile:
    """One raw file. ``day``: UTC day of ts_recv; ``sessions``: whose parts it holds; ``written``: by this call."""

    path: Path
    schema: str
    day: date
    sessions: tuple[date, ...]
    record_count: int
    bytes: int
    sha256: str
    written: bool = field(default=False, compare=False)

    def to_json(self, root: Path) -> dict:
        return {
            "path": self.path.relative_to(root).as_posix(),
            "schema": self.schema,
            "date": self.day.isoformat(),
            "sessions": [d.isoformat() for d in self.sessions],
            "record_count": self.record_count,
            "bytes": self.bytes,
            "sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, root: Path, entry: dict) -> "SimulatedFile":
        return cls(
            path=root / entry["path"],
            schema=entry["schema"],
            day=date.fromisoformat(entry["date"]),
            sessions=tuple(date.fromisoformat(d) for d in entry["sessions"]),
            record_count=entry["record_count"],
            bytes=entry["bytes"],
            sha256=entry["sha256"],
        )


def simulate(
    root: Path,
    dates: Iterable[date],
    *,
    scale: float,
    seed: int,
    profile: Profile,
    progress: Callable[[int, int], None] | None = None,
    truth: Path | None = None,
) -> list[SimulatedFile]:
    """Write the raw files of the sessions ``dates`` under ``root`` and return them, in order of day and schema.

    ``dates`` are session dates; weekends and full holidays among them have no session and are skipped. ``scale`` in
    (0, 1] is the share of a full day's events (8 M mbp-10 records, 500 k trades); sizes and the price path don't
    depend on it. ``profile``: ``null`` has nothing to learn, ``planted`` has the effects of market spec 17,
    ``default`` a price that levels push off. The same (seed, date, scale, profile) gives the same records.

    Files that ``raw/simulation.json`` lists are left as they are, so a second call with the same settings only checks
    their sha256. Files appear whole or not at all, by the quarter gigabyte; after a kill the next call does the rest.
    ``progress`` is called with (sessions done, sessions to do). ``truth`` is a Parquet path outside ``root``: what
    was planted (see `truth.Recorder`); nothing downstream may read it.

    Raises SimulationError for no session, a scale, seed or profile out of range, a root that holds a simulation with
    other settings, a file that isn't what simulation.json says, and a file of somebody else in the way.
    """
    root = root.resolve()
    days = _checked(root, dates, scale, seed, profile, truth)
    (root / "raw").mkdir(parents=True, exist_ok=True)
    with FileLock(root / "raw" / "._simulation.lock"):
        settings = {"profile": profile, "seed": seed, "scale": scale}
        ledger = _Ledger.load(root, settings)
        for leftover in (root / "raw" / "dbn").glob(f"*/{TEMP_PREFIX}*"):
            leftover.unlink()
        missing = _missing_parts(days, ledger.files)
        todo = [day for day in days if any(session == day for _, _, session in missing)]
        collect = truth is not None and bool(todo or not truth.exists())
        recorder = truth_file.Recorder() if collect else None
        run_id, started_at = new_run_id("simulate"), now_utc()
        _feeds(ledger, days if collect else todo, missing, recorder, progress)
        if recorder:
            recorder.write(truth)
        if todo:
            write_run(
                root,
                run_id,
                config={"command": "simulate market", "dates": [str(day) for day in days], **settings},
                counts={"sessions": len(todo), "files": sum(f.written for f in ledger.chosen(days))},
                status="ok",
                started_at=started_at,
            )
    return sorted(ledger.chosen(days), key=lambda f: (f.day, f.schema, f.sessions))


def _checked(
    root: Path, dates: Iterable[date], scale: float, seed: int, profile: str, truth: Path | None
) -> list[date]:
    if profile not in get_args(Profile):
        known = ", ".join(get_args(Profile))
        raise SimulationError(f"profile was {profile!r}, expected one of {known}; choose one of them")
    if not (math.isfinite(scale) and 0 < scale <= 1):
        raise SimulationError(
            f"scale was {scale}, expected more than 0 and at most 1; the demo uses {DEMO_SCALE}"
        )
    if seed < 0:
        raise SimulationError(f"seed was {seed}, expected 0 or more; choose another seed")
    asked = sorted(set(dates))
    if not asked:
        raise SimulationError("dates were empty, expected at least one session date; name some")
    if truth is not None and truth.resolve().is_relative_to(root):
        raise SimulationError(f"truth was {truth}, expected a path outside {root}; put it elsewhere")
    try:
        sessions = set(trading_sessions(asked[0], asked[-1]))
    except ValueError as error:
        raise SimulationError(str(error)) from None
    if days := [day for day in asked if day in sessions]:
        return days
    raise SimulationError(
        f"dates were {asked[0]} to {asked[-1]} without a trading session, expected weekdays that are no holiday; "
        "choose others"
    )


@dataclass
class _Ledger:
    """``raw/simulation.json``: the settings and the files that are done."""

    root: Path
    settings: dict
    files: list[SimulatedFile]

    @staticmethod
    def path(root: Path) -> Path:
        return root / "raw" / "simulation.json"

    @classmethod
    def load(cls, root: Path, settings: dict) -> "_Ledger":
        path = cls.path(root)
        if not path.exists():
            return cls(root, settings, [])
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SimulationError(
                f"{path} was not JSON ({error}); put it back, or use another root"
            ) from error
        found = {key: known.get(key) for key in settings}
        if found != settings or known.get("simulation_version") != SIMULATION_VERSION:
            raise SimulationError(
                f"{path} was made with {_words(found)}, expected {_words(settings)} as asked for; "
                "use the settings it has or another root"
            )
        files = [SimulatedFile.from_json(root, entry) for entry in known["files"]]
        there = [f for f in files if f.path.exists()]
        for f in there:
            if (actual := atomic.sha256_file(f.path)) != f.sha256:
                raise SimulationError(
                    f"sha256 of {f.path} was {actual}, expected {f.sha256} as simulation.json says; "
                    "delete the file to have it written again"
                )
        return cls(root, settings, there)

    def add(self, files: list[SimulatedFile]) -> None:
        self.files += files
        self.files.sort(key=lambda f: (f.day, f.schema, f.sessions))
        sessions = sorted({session for f in self.files for session in f.sessions})
        atomic.write_json(
            self.path(self.root),
            {
                "simulation_version": SIMULATION_VERSION,
                **self.settings,
                "dates": [d.isoformat() for d in sessions],
                "files": [f.to_json(self.root) for f in self.files],
            },
        )

    def chosen(self, days: list[date]) -> list[SimulatedFile]:
        return [f for f in self.files if set(f.sessions) & set(days)]


def _words(settings: dict) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def _days_of(session: date) -> tuple[date, date]:
    """The two UTC days that a session falls into."""
    clock = session_clock(session)
    return utc_day(clock.globex_open_ns), utc_day(clock.globex_close_ns - 1)


def _missing_parts(days: list[date], files: list[SimulatedFile]) -> set[tuple[str, date, date]]:
    """(schema, UTC day, session) of everything that no file holds yet."""
    have = {(f.schema, f.day, session) for f in files for session in f.sessions}
    want = {(schema, utc, session) for session in days for utc in _days_of(session) for schema in SCHEMAS}
    return want - have


def _feeds(
    ledger: _Ledger,
    days: list[date],
    missing: set[tuple[str, date, date]],
    recorder: truth_file.Recorder | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Simulate session after session and hand each to the writers of its feeds (so far: futures)."""
    with ExitStack() as stack:
        futures = stack.enter_context(_FuturesWriter(ledger, missing))
        for done, day in enumerate(days):
            stream = open_session(
                ledger.settings["seed"], day, ledger.settings["scale"], ledger.settings["profile"]
            )
            futures.write_session(day, stream, recorder)
            if recorder:
                recorder.add_plan(day, stream)
            if progress:
                progress(done + 1, len(days))
        futures.finish()


class _FuturesWriter:
    """Splits sessions into files by UTC day of ts_recv. A file is complete when the last session of its day is over.

    Complete files are published together, by the volume, because each sync of the disk costs as much as a session.
    """

    def __init__(self, ledger: _Ledger, missing: set[tuple[str, date, date]]):
        self._ledger, self._missing = ledger, missing
        self._open: dict[tuple[str, date], DbnFile] = {}
        self._complete: list[DbnFile] = []

    def __enter__(self) -> "_FuturesWriter":
        return self

    def __exit__(self, *_: object) -> None:
        for file in (*self._open.values(), *self._complete):
            file.discard()

    def write_session(
        self, session: date, stream: SessionStream, recorder: truth_file.Recorder | None
    ) -> None:
        evening, day = _days_of(session)
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
        self._publish()

    def _file(self, schema: str, utc: date) -> DbnFile:
        if (schema, utc) not in self._open:
            folder = self._ledger.root / "raw" / "dbn" / FOLDERS[schema]
            self._open[schema, utc] = DbnFile(folder, schema, utc, _contracts(self._sessions(schema, utc)))
        return self._open[schema, utc]

    def _sessions(self, schema: str, utc: date) -> tuple[date, ...]:
        return tuple(sorted(s for part, day, s in self._missing if (part, day) == (schema, utc)))

    def _complete_days(self, days: list[date]) -> None:
        for key in [key for key in self._open if key[1] in days]:
            file = self._open.pop(key)
            self._complete.append(file)
            file.finish()
        if sum(file.bytes for file in self._complete) >= PUBLISH_BYTES:
            self._publish()

    def _publish(self) -> None:
        done = []
        for file in self._complete:
            path = self._place(file)
            file.publish(path)
            sessions = self._sessions(file.schema, file.day)
            done.append(
                SimulatedFile(
                    path,
                    file.schema,
                    file.day,
                    sessions,
                    file.record_count,
                    file.bytes,
                    file.sha256,
                    written=True,
                )
            )
        self._complete.clear()
        for folder in {f.path.parent for f in done}:
            atomic.fsync_dir(folder)
        if done:
            self._ledger.add(done)

    def _place(self, file: DbnFile) -> Path:
        """The vendor's name, or with the sha256 in it when this simulation already has a file of that name."""
        folder = self._ledger.root / "raw" / "dbn" / FOLDERS[file.schema]
        path = folder / vendor_name(file.schema, file.day)
        if path in {f.path for f in self._ledger.files}:
            path = path.with_name(path.name.replace(".dbn.zst", f".{file.sha256[:8]}.dbn.zst"))
        if path.exists() and atomic.sha256_file(path) != file.sha256:
            raise SimulationError(
                f"{path} was there and is no file of this simulation, expected a free name; "
                "move it away or simulate into another root"
            )
        return path


def _contracts(sessions: list[date]) -> tuple[Contract, ...]:
    """The contracts of a file's sessions, once each, in order."""
    return tuple(dict.fromkeys(c for session in sorted(sessions) for c in contracts_of(session).all()))


def _trade_records(records: np.ndarray) -> np.ndarray:
    """(k, 6) trades records of the T records among (n, 46) mbp-10 records: the same fields without the levels."""
    trades = records[(records[:, 3] >> 32 & 0xFF) == TRADE_ACTION, : WORDS["trades"]].copy()
    trades[:, 0] = trades[:, 0] & ~0xFFFF | WORDS["trades"] * 2 | RTYPES["trades"] << 8
    return trades
