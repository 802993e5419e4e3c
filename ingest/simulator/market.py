"""`tickhouse simulate market`: a market in the vendor's own file formats, with a truth that is known.

Files. A session D runs from 18:00 New York time of the day before to 17:00 of D, so it falls into two UTC days;
a vendor's file holds the UTC day of ``ts_recv``. Each session is simulated on its own from (seed, date, scale,
profile) and written into the files of its two UTC days; a file holds the parts of those sessions that were asked
for. Raw files are written once: when a later call adds a session whose day already has its file, the added part
becomes a second file of that day, named as ingest names a delivery whose name is taken (``….trades.<sha256 8>
.dbn.zst``). All files together hold every session part exactly once, whatever the order of the calls.

The same sessions give one flat file of option trades and one of stock trades for the New York date that is the session
date, ``raw/polygon/{options,stocks}/YYYY-MM-DD.csv.gz``.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock

from ingest.simulator import truth as truth_file
from ingest.simulator.clock import trading_sessions
from ingest.simulator.dbn import TEMP_PREFIX
from ingest.simulator.faults import DEMO_FAULTS, FaultError, Faults, resolve
from ingest.simulator.flat_files import flat_files, flat_parts
from ingest.simulator.futures_files import FuturesWriter, futures_parts
from ingest.simulator.ledger import Ledger, Part, Publisher, SimulatedFile, SimulationError, order
from ingest.simulator.session import open_session
from lake.commits import now_utc
from lake.runs import new_run_id, write_run

DEMO_SCALE = (
    0.02  # 160,000 mbp-10 records a session; below about 0.016 the moves alone cost more than the scale
)
DEMO_DATES = tuple(
    trading_sessions(date(2025, 10, 6), date(2025, 10, 31))
)  # 20 full sessions of one contract
__all__ = ["DEMO_DATES", "DEMO_FAULTS", "DEMO_SCALE", "simulate"]
Profile = Literal["default", "null", "planted"]
PUBLISH_BYTES = 256 << 20


def simulate(
    root: Path,
    dates: Iterable[date],
    *,
    scale: float,
    seed: int,
    profile: Profile,
    progress: Callable[[int, int], None] | None = None,
    truth: Path | None = None,
    faults: Iterable[str] = (),
) -> list[SimulatedFile]:
    """Write the raw files of the sessions ``dates`` under ``root`` and return them, in order of day and schema.

    ``dates`` are session dates; weekends and full holidays among them have no session and are skipped. ``scale`` in
    (0, 1] is the share of a full day's events (8 M mbp-10 records, 500 k trades); sizes and the price path don't
    depend on it. ``profile``: ``null`` has nothing to learn, ``planted`` has the effects of market spec 17,
    ``default`` a price that levels push off. ``faults`` are names of `faults.FAULTS`, ``all`` or ``none``; some add a
    session. The same (seed, date, scale, profile) gives the same records, and with the same faults the same files.

    Files that ``raw/simulation.json`` lists are left as they are, so a second call with the same settings only checks
    their sha256. Files appear whole or not at all, by the quarter gigabyte; after a kill the next call does the rest.
    ``progress`` is called with (sessions done, sessions to do). ``truth`` is a Parquet path outside ``root``: what
    was planted (see `truth.Recorder`); nothing downstream may read it.

    Raises SimulationError for no session, a scale, seed, profile or fault out of range, a root that holds a
    simulation with other settings, a file that isn't what simulation.json says, and a file of somebody else in the way.
    """
    root = root.resolve()
    days = _checked(root, dates, scale, seed, profile, truth)
    try:
        wrong = resolve(faults, days, Ledger.faults_of(root))
    except FaultError as error:
        raise SimulationError(str(error)) from None
    days = sorted({*days, *wrong.added_sessions()})
    (root / "raw").mkdir(parents=True, exist_ok=True)
    with FileLock(root / "raw" / "._simulation.lock"):
        settings = {"profile": profile, "seed": seed, "scale": scale, "faults": wrong.to_json()}
        ledger = Ledger.load(root, settings)
        for leftover in (root / "raw").glob(f"*/*/{TEMP_PREFIX}*"):
            leftover.unlink()
        missing = _missing_parts(days, ledger.files, wrong)
        todo = [day for day in days if any(session == day for _, _, session, _ in missing)]
        collect = truth is not None and bool(todo or not truth.exists())
        recorder = truth_file.Recorder() if collect else None
        run_id, started_at = new_run_id("simulate"), now_utc()
        _feeds(ledger, days if collect else todo, missing, wrong, recorder, progress)
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
    return sorted(ledger.chosen(days), key=order)


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


def _missing_parts(days: list[date], files: list[SimulatedFile], faults: Faults) -> set[Part]:
    """Everything that no file holds yet."""
    have = {(f.schema, f.day, session, f.fault) for f in files for session in f.sessions}
    parts = (part(day, faults.of(day)) for day in days for part in (futures_parts, flat_parts))
    return set(itertools.chain.from_iterable(parts)) - have


def _feeds(
    ledger: Ledger,
    days: list[date],
    missing: set[Part],
    faults: Faults,
    recorder: truth_file.Recorder | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Simulate session after session and hand each to the writers of its feeds."""
    seed, scale, profile = (ledger.settings[key] for key in ("seed", "scale", "profile"))
    with ExitStack() as stack:
        publisher = stack.enter_context(Publisher(ledger, PUBLISH_BYTES))
        futures = stack.enter_context(FuturesWriter(publisher, missing, faults, seed))
        for done, day in enumerate(days):
            stream = open_session(seed, day, scale, profile, faults.of(day))
            futures.write_session(day, stream, recorder)
            parts = sorted((part for part in missing if part[2] == day), key=str)
            for file in flat_files(ledger.root, seed, scale, profile, stream.plan, parts, faults.of(day)):
                publisher.add(file, (day,))
            if recorder:
                recorder.add_plan(day, stream)
            publisher.publish_if_many()
            if progress:
                progress(done + 1, len(days))
        futures.finish()
        publisher.publish()
