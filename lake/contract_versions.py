"""The checked-in contracts: ``contracts/<layer>/<dataset>/v<major>[.<minor>].json``, and which of them are published.

A file is a draft, and follows the YAML, until a line of ``contracts/published.txt`` names it with its sha256; from then
on it stands, and what the YAML says more or less goes to a file of the next version. ``sha256sum --check`` reads the
list too. Source: spec/execution.md 7.1; docs/adr/0016.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lake import atomic, contract_changes, contract_documents
from lake.contract_changes import Change
from lake.contract_documents import LAYERS, Dataset
from lake.contracts import CONTRACTS_DIR
from lake.paths import PROJECT_DIR

PUBLISHED = "published.txt"
CHANGELOG = "CHANGELOG.md"
FIRST = "1.0"
_FILE = re.compile(r"v(\d+)(?:\.(\d+))?\.json")


class ContractRefused(ValueError):
    """What was asked for would change a published contract, or names none."""


@dataclass(frozen=True)
class Fault:
    """One way in which YAML, contract files, list and changelog don't agree; ``told`` says what to do."""

    dataset: str
    told: str

    def as_row(self) -> dict[str, str]:
        return {"dataset": self.dataset, "fault": self.told}


def file_name(version: str) -> str:
    """``1.0`` → ``v1.json``, ``1.2`` → ``v1.2.json``."""
    return f"v{version.removesuffix('.0')}.json"


def text_of(promise: dict[str, Any], version: str) -> str:
    """The file of one version: a promise, and which version of it this is."""
    document = {"name": promise["name"], "version": version} | promise
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


# -- what is checked in ----------------------------------------------------------------------------------------------


def versions(name: str, folder: Path = CONTRACTS_DIR) -> dict[str, Path]:
    """Checked-in files of a dataset by version, oldest first."""
    found = {}
    for path in (folder / name).glob("v*.json"):
        if match := _FILE.fullmatch(path.name):
            found[int(match[1]), int(match[2] or 0)] = path
    return {f"{major}.{minor}": found[major, minor] for major, minor in sorted(found)}


def published(folder: Path = CONTRACTS_DIR) -> dict[str, str]:
    """sha256 of each published file, by its path below ``contracts/``, in order of publication."""
    path = folder / PUBLISHED
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found: dict[str, str] = {}
    for line in lines:
        match = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
        if not match or match[2] in found:
            raise ContractRefused(
                f"{PUBLISHED}: a line was {line!r}, expected 64 hex digits, two spaces and a path that stands once; "
                "restore the list from version control"
            )
        found[match[2]] = match[1]
    return found


def read(path: Path) -> dict[str, Any]:
    """A contract file as it stands. Raises ContractRefused when it isn't one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        document["columns"], document["version"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ContractRefused(
            f"{path}: was no contract ({error!r}), expected JSON with version and columns"
        ) from error
    return document


def load(what: str) -> dict[str, Any]:
    """A contract by its file, or by the name of a dataset: what its YAML says now."""
    if Path(what).is_file():
        return read(Path(what))
    known = contract_documents.datasets()
    if what.replace(".", "/", 1) not in known:
        raise ContractRefused(
            f"{what} was neither a file nor a dataset with a contract; see `tickhouse contract list`"
        )
    return known[what.replace(".", "/", 1)].promise


def overview(project_dir: Path = PROJECT_DIR, folder: Path = CONTRACTS_DIR) -> list[dict[str, object]]:
    """One row per dataset with a contract, flat, in order of name."""
    rows = []
    for dataset in contract_documents.datasets(project_dir).values():
        version, _ = current(dataset, folder)
        place = f"{dataset.name}/{file_name(version)}"
        rows.append(
            {
                "dataset": dataset.name,
                "version": version,
                "state": "published" if place in published(folder) else "draft",
                "owner": dataset.promise["owner"],
                "columns": len(dataset.promise["columns"]),
                "grain": ", ".join(dataset.promise["grain"]),
                "partition": ", ".join(dataset.promise["partition"]),
            }
        )
    return rows


def current(dataset: Dataset, folder: Path = CONTRACTS_DIR) -> tuple[str, list[Change]]:
    """(the version that the YAML stands for now, its changes since the last published one; none before the first)."""
    last = _last_published(dataset.name, folder)
    if last is None:
        return FIRST, []
    changes = contract_changes.compare(read(last[1]), dataset.promise)
    return (contract_changes.next_version(last[0], changes) if changes else last[0]), changes


def _last_published(name: str, folder: Path) -> tuple[str, Path] | None:
    listed = published(folder)
    files = versions(name, folder)
    standing = [(v, p) for v, p in files.items() if p.relative_to(folder).as_posix() in listed]
    return standing[-1] if standing else None


# -- writing ---------------------------------------------------------------------------------------------------------


def write(project_dir: Path = PROJECT_DIR, folder: Path = CONTRACTS_DIR) -> list[Path]:
    """Write the draft of each dataset whose YAML isn't published as it stands, and drop drafts that nothing says any
    more; returns what changed. Published files are never touched."""
    listed = published(folder)
    wanted: dict[Path, str] = {}
    for dataset in contract_documents.datasets(project_dir).values():
        version, _ = current(dataset, folder)
        path = folder / dataset.name / file_name(version)
        if path.relative_to(folder).as_posix() not in listed:
            wanted[path] = text_of(dataset.promise, version)
    changed = []
    for path in _files(folder):
        if path not in wanted and path.relative_to(folder).as_posix() not in listed:
            path.unlink()
            changed.append(path)
    for path, text in wanted.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            atomic.make_dirs(path.parent)
            atomic.write_text(path, text)
            changed.append(path)
    return changed


def publish(
    names: Iterable[str] = (), project_dir: Path = PROJECT_DIR, folder: Path = CONTRACTS_DIR
) -> list[str]:
    """List the drafts of these datasets, of all when none is named, as published; returns their paths.

    Raises ContractRefused when a name has no contract, or when `check` finds a fault: a promise is made whole.
    """
    known = contract_documents.datasets(project_dir)
    chosen = list(names) or list(known)
    if unknown := [name for name in chosen if name not in known]:
        raise ContractRefused(
            f"{', '.join(unknown)} has no contract; `tickhouse contract list` names those that have"
        )
    if faults := check(project_dir, folder):
        raise ContractRefused(
            f"{faults[0].dataset}: {faults[0].told} ({len(faults)} faults); mend that first"
        )
    listed = published(folder)
    new = []
    for name in chosen:
        for path in versions(name, folder).values():
            place = path.relative_to(folder).as_posix()
            if place not in listed:
                listed[place] = _sha256(path)
                new.append(place)
    text = "".join(f"{digest}  {place}\n" for place, digest in listed.items())
    if new:
        atomic.write_text(folder / PUBLISHED, text)
    return new


# -- checking --------------------------------------------------------------------------------------------------------


def check(project_dir: Path = PROJECT_DIR, folder: Path = CONTRACTS_DIR) -> list[Fault]:
    """Everything in which YAML, contract files, the list of published ones and the changelog don't agree."""
    known = contract_documents.datasets(project_dir)
    changelog = contract_lines(project_dir / CHANGELOG)
    return [
        *_edited(folder),
        *(fault for dataset in known.values() for fault in _stale(dataset, folder)),
        *(fault for name in sorted(_names(folder)) for fault in _misnumbered(name, folder, changelog)),
        *_withdrawn(known, folder),
    ]


def contract_lines(changelog: Path) -> str:
    """The text below every heading "Data contracts" of the changelog."""
    text = changelog.read_text(encoding="utf-8") if changelog.is_file() else ""
    return "\n".join(re.findall(r"^### Data contracts$(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE))


def _edited(folder: Path) -> Iterator[Fault]:
    for place, digest in published(folder).items():
        path, name = folder / place, place.rpartition("/")[0]
        if not path.is_file():
            yield Fault(name, f"{place} was published and is gone; restore it from version control")
        elif _sha256(path) != digest:
            yield Fault(
                name, f"{place} was published and edited since; restore it, a change is a new version file"
            )


def _stale(dataset: Dataset, folder: Path) -> Iterator[Fault]:
    version, changes = current(dataset, folder)
    path = folder / dataset.name / file_name(version)
    if path.relative_to(folder).as_posix() in published(folder):
        return
    if not path.is_file():
        told = "; ".join(change.told() for change in changes[:3]) or "it has no contract yet"
        yield Fault(dataset.name, f"{path.name} was missing ({told}); run `tickhouse contract write`")
    elif path.read_text(encoding="utf-8") != text_of(dataset.promise, version):
        yield Fault(dataset.name, f"{path.name} is not what the YAML says; run `tickhouse contract write`")


def _misnumbered(name: str, folder: Path, changelog: str) -> Iterator[Fault]:
    """Each version against the one before it: a breaking change has a new major number, any change a line of news."""
    files = list(versions(name, folder).items())
    if files and files[0][0] != FIRST:
        yield Fault(name, f"the oldest file was {files[0][1].name}, expected v1.json; restore it")
    for (old, old_path), (new, new_path) in itertools.pairwise(files):
        before, after = read(old_path), read(new_path)
        changes = contract_changes.compare(before, after)
        wanted = contract_changes.next_version(old, changes)
        if contract_changes.is_breaking(changes) and new != wanted:
            worst = next(change for change in changes if change.kind == contract_changes.BREAKING)
            yield Fault(
                name,
                f"{new_path.name} breaks {old_path.name} ({worst.told()}); number it {file_name(wanted)}",
            )
        told = f"`{after['name']}` v{new.removesuffix('.0')}"
        if told not in changelog:
            yield Fault(
                name, f"{new_path.name} has no news; add a line with {told} to CHANGELOG, Data contracts"
            )
    for version, path in files:
        if (said := read(path)["version"]) != version:
            yield Fault(
                name, f"{path.name} said version {said}, expected {version}; name it {file_name(said)}"
            )


def _withdrawn(known: dict[str, Dataset], folder: Path) -> Iterator[Fault]:
    """A contract whose dataset is gone: nobody keeps the promise."""
    for name in sorted(_names(folder) - set(known)):
        places = [path.relative_to(folder).as_posix() for path in versions(name, folder).values()]
        if set(places) & set(published(folder)):
            yield Fault(
                name, "its dataset is gone and its contract published; keep the dataset until readers moved"
            )
        else:
            yield Fault(name, "its dataset is gone; run `tickhouse contract write`, which drops the draft")


def _names(folder: Path) -> set[str]:
    return {path.parent.relative_to(folder).as_posix() for path in _files(folder)}


def _files(folder: Path) -> list[Path]:
    return sorted(
        p for layer in LAYERS for p in (folder / layer).glob("*/v*.json") if _FILE.fullmatch(p.name)
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
