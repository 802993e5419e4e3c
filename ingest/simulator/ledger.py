"""``raw/simulation.json``: what the simulator was asked for, and the files that are done."""

import json
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Protocol

from ingest.expected import Expected
from ingest.simulator.faults import BROKEN_DELIVERIES
from lake import atomic

SIMULATION_VERSION = 2
# A file's part of a session: schema, day of the file (see `SimulatedFile`), session, fault of the delivery.
Part = tuple[str, date, date, str | None]


class SimulationError(ValueError):
    """The request can't be met: what was expected, what it was, what to do."""


@dataclass(frozen=True)
class SimulatedFile:
    """One raw file. ``day``: UTC day of ts_recv of a DBN file, New York date of a flat file; ``sessions``: whose parts
    it holds; ``fault``: what is wrong with a delivery that nobody asked for; ``written``: by this call.
    """

    path: Path
    schema: str
    day: date
    sessions: tuple[date, ...]
    record_count: int
    bytes: int
    sha256: str
    fault: str | None = None
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
            "fault": self.fault,
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
            fault=entry["fault"],
        )


@dataclass
class Ledger:
    """``raw/simulation.json``: the settings and the files that are done."""

    root: Path
    settings: dict
    files: list[SimulatedFile]

    @staticmethod
    def path(root: Path) -> Path:
        return root / "raw" / "simulation.json"

    @classmethod
    def faults_of(cls, root: Path) -> dict[str, date | None]:
        """The faults that the simulation under ``root`` has, and the session of each; none when there is no file."""
        if not cls.path(root).exists():
            return {}
        faults = cls.read(root).get("faults", {})
        return {name: day and date.fromisoformat(day) for name, day in faults.items()}

    @classmethod
    def read(cls, root: Path) -> dict:
        path = cls.path(root)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SimulationError(
                f"{path} was not JSON ({error}); put it back, or use another root"
            ) from error

    @classmethod
    def load(cls, root: Path, settings: dict) -> "Ledger":
        path = cls.path(root)
        if not path.exists():
            return cls(root, settings, [])
        known = cls.read(root)
        asked = {"simulation_version": SIMULATION_VERSION, **settings}
        found = {key: known.get(key) for key in asked}
        if found != asked:
            raise SimulationError(
                f"{path} was made with {_words(found)}, expected {_words(asked)} as asked for; "
                "use the settings it has or another root"
            )
        files = [SimulatedFile.from_json(root, entry) for entry in known["files"]]
        # A broken delivery isn't there any more once it was refused, and isn't sent again.
        there = [f for f in files if f.fault in BROKEN_DELIVERIES or f.path.exists()]
        for f in there:
            if f.fault not in BROKEN_DELIVERIES and (actual := atomic.sha256_file(f.path)) != f.sha256:
                raise SimulationError(
                    f"sha256 of {f.path} was {actual}, expected {f.sha256} as simulation.json says; "
                    "delete the file to have it written again"
                )
        return cls(root, settings, there)

    def add(self, files: list[SimulatedFile]) -> None:
        self.files += files
        self.files.sort(key=order)
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

    def place(self, folder: Path, name: str, sha256: str, fault: str | None) -> Path:
        """The vendor's name, or with the sha256 in it when this simulation already has a file of that name.

        Raises SimulationError when a file of somebody else is in the way.
        """
        path = folder / name
        if fault or path in {f.path for f in self.files}:
            stem, dot, suffix = name.partition(".csv.gz" if name.endswith(".csv.gz") else ".dbn.zst")
            path = folder / f"{stem}.{sha256[:8]}{dot}{suffix}"
        if path.exists() and atomic.sha256_file(path) != sha256:
            raise SimulationError(
                f"{path} was there and is no file of this simulation, expected a free name; "
                "move it away or simulate into another root"
            )
        return path

    def chosen(self, days: list[date]) -> list[SimulatedFile]:
        return [f for f in self.files if set(f.sessions) & set(days)]


def delivery_list(root: Path) -> tuple[dict[Path, Expected], set[Path]]:
    """Size and sha256 of each simulated DBN file, as a vendor's list would have them, by path; and the files of
    both kinds that are broken on purpose.
    """
    if not Ledger.path(root).exists():
        return {}, set()
    files = [SimulatedFile.from_json(root, entry) for entry in Ledger.read(root)["files"]]
    listed = {
        f.path: Expected(bytes=f.bytes, sha256=f.sha256) for f in files if f.path.name.endswith(".dbn.zst")
    }
    return listed, {f.path for f in files if f.fault in BROKEN_DELIVERIES}


def order(file: SimulatedFile) -> tuple:
    return file.day, file.schema, file.sessions, file.fault or ""


class RawFile(Protocol):
    """A finished file under its temporary name."""

    schema: str
    day: date
    record_count: int
    bytes: int
    sha256: str
    fault: str | None

    def folder(self, root: Path) -> Path: ...

    def name(self) -> str: ...

    def publish(self, path: Path) -> None: ...

    def discard(self) -> None: ...


class Publisher:
    """Gives finished files their names, together, by the volume: each sync of the disk costs as much as a session."""

    def __init__(self, ledger: "Ledger", publish_bytes: int) -> None:
        self.ledger, self._publish_bytes = ledger, publish_bytes
        self._complete: list[tuple[RawFile, tuple[date, ...]]] = []

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, *_: object) -> None:
        for file, _ in self._complete:
            file.discard()

    def add(self, file: RawFile, sessions: tuple[date, ...]) -> None:
        self._complete.append((file, sessions))

    def publish_if_many(self) -> None:
        if sum(file.bytes for file, _ in self._complete) >= self._publish_bytes:
            self.publish()

    def publish(self) -> None:
        done = []
        for file, sessions in self._complete:
            path = self.ledger.place(file.folder(self.ledger.root), file.name(), file.sha256, file.fault)
            file.publish(path)
            done.append(
                SimulatedFile(
                    path, file.schema, file.day, sessions, file.record_count, file.bytes, file.sha256, file.fault,
                    written=True,
                )
            )  # fmt: skip
        self._complete.clear()
        for folder in {f.path.parent for f in done}:
            atomic.fsync_dir(folder)
        if done:
            self.ledger.add(done)


def _words(settings: dict) -> str:
    shown = settings | {"faults": " and ".join(settings.get("faults") or {}) or "none"}
    return ", ".join(f"{key} {value}" for key, value in shown.items())
