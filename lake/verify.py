"""Building a version again from bronze and its manifest, somewhere else, and comparing digest by digest.

Source: spec/market.md 11.3; architecture D5.
"""

import contextlib
import datetime
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lake import ancestry, commits, dbt, params, plan, project, release, released, yaml_files
from lake.paths import PROJECT_DIR, bronze_dir

LINKED = ("raw", "lake/bronze", "lake/archive")


class NotVerifiable(ValueError):
    """The version can't be built again; the message says what is missing."""


@dataclass(frozen=True)
class Row:
    """One date of one dataset: the digest on record, and that of the rebuild; None where there was nothing."""

    dataset: str
    date: str
    recorded: str
    rebuilt: str | None

    @property
    def is_equal(self) -> bool:
        return self.recorded == self.rebuilt


@dataclass(frozen=True)
class Report:
    """What came of a rebuild. ``rows`` go from bronze's readers to the version itself; the remarks explain why digests
    may differ: names of code, bronze and engines that are not those on record."""

    version: str
    rows: list[Row]
    code: list[str] = field(default_factory=list)
    bronze: list[str] = field(default_factory=list)
    engines: list[str] = field(default_factory=list)
    git_commit: str | None = None

    @property
    def is_equal(self) -> bool:
        return all(row.is_equal for row in self.rows)


def verify(
    root: Path,
    version: str,
    *,
    scratch: Path | None = None,
    threads: int | None = None,
    project_dir: Path = PROJECT_DIR,
    on_node: Callable[[str], None] = lambda name: None,
) -> Report:
    """Rebuild ``version`` and all it is made from in ``scratch``, and compare every digest on record.

    Bronze is read where it stands, through links, and nothing of ``root`` is written. The params are those that the
    version's ``params.yaml`` holds, whatever the repository's sets say now; the code is the checkout's. ``scratch``
    defaults to a temporary folder, which goes afterwards. ``threads`` are DuckDB's and dbt's. ``on_node`` is told
    each model that was built.

    Raises NotVerifiable when the version has no record or no model, RuntimeError when a model fails.
    """
    folder = released.version_dir(root, version)
    recorded, resolved = (read_record(folder / name, version) for name in ("manifest.yaml", "params.yaml"))
    if not recorded["dates"]:
        raise NotVerifiable(f"{version} has no date, expected at least one; build it first")
    datasets = _datasets(root, version)
    known = _on_record(root, datasets)
    with contextlib.ExitStack() as stack:
        if scratch is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="tickhouse-verify-"))
            scratch = Path(made).resolve()
        _prepare(root, scratch)
        stack.enter_context(environment(write_params(scratch, resolved), threads))
        options = {
            "root": scratch,
            "project_dir": project_dir,
            "target_path": scratch / "target",
            "variables": _span(known, recorded),
        }
        graph, _ = project.load(**options)
        nodes = {plan.dataset_folder(n): n for n in _nodes(graph, version, resolved)}
        selected = [f"+{release.selector(nodes[d])}" for d in datasets if d in nodes]
        args = ["run", "--select", *selected, *(["--threads", str(threads)] if threads else [])]
        dbt.invoke(args, **options, on_event=told_of(on_node))
        rows = [
            Row(dataset, date, digest, _rebuilt(scratch, dataset, date, resolved["params_digest"]))
            for (dataset, date), digest in known.digests.items()
        ]
        again = read_record(scratch / folder.relative_to(root) / "params.yaml", version)
        inputs: ancestry.Inputs = {}
        for partition in commits.read_partitions(scratch / folder.relative_to(root)).values():
            if partition.commit.date in known.dates:
                inputs |= released.read_ancestry(scratch, partition)
    return Report(
        version=version,
        rows=sorted(
            rows,
            key=lambda row: (row.dataset.startswith("gold"), row.dataset in datasets, row.dataset, row.date),
        ),
        code=ancestry.changed(resolved["code"]["files"], again["code"]["files"]),
        bronze=[n for kind in ("bronze/", "gaps/") for n in ancestry.changed(known.bronze, inputs, kind)],
        engines=[
            f"{name} {was} → {again['engines'].get(name)}"
            for name, was in resolved["engines"].items()
            if again["engines"].get(name) != was
        ],
        git_commit=resolved["code"]["git_commit"],
    )


# -- what is on record -------------------------------------------------------------------------------------------------


@dataclass
class _Known:
    """Digests by (dataset, date) that a version's dates were made from, their own included; and its bronze."""

    digests: dict[tuple[str, str], str] = field(default_factory=dict)
    bronze: ancestry.Inputs = field(default_factory=dict)
    dates: set[str] = field(default_factory=set)
    is_whole: bool = True


def _on_record(root: Path, datasets: list[str]) -> _Known:
    known = _Known()
    for dataset in datasets:
        for partition in commits.read_partitions(root / "lake" / dataset).values():
            commit = partition.commit
            known.digests[dataset, commit.date] = commit.content_digest
            if dataset == datasets[0]:
                known.dates.add(commit.date)
            for name, digest in released.read_ancestry(root, partition).items():
                place, _, date = name.rpartition("/")
                if place.startswith(("silver/", "gold/")):
                    known.digests.setdefault((place, date), digest)
                    known.is_whole &= _is_followed(root, partition, name, digest)
                elif dataset == datasets[0]:
                    known.bronze[name] = digest
    return known


def _is_followed(root: Path, partition: commits.Partition, name: str, digest: str) -> bool:
    """False when a parent was built anew, or lost, before anybody recorded what it was made from."""
    if (partition.folder / "_metadata" / released.ANCESTRY_FILE).is_file():
        return True
    parent = ancestry.partition(root, name, partition.commit.params_digest)
    return parent is not None and parent.commit.content_digest == digest


def _datasets(root: Path, version: str) -> list[str]:
    """Folders below ``lake/`` of the version's features and, where it is built, of its training table."""
    places = [f"silver/features/{version}", f"gold/training/candidates/{version}"]
    found = [p for p in places if commits.read_partitions(root / "lake" / p)]
    if places[0] not in found:
        raise NotVerifiable(
            f"lake/{places[0]} has no date there, expected at least one; an archived version is unpacked first: "
            f"tar -C lake/silver/features -xf lake/archive/silver/features/{version}.tar"
        )
    return found


def _span(known: _Known, recorded: dict[str, Any]) -> dict[str, str]:
    """The dates to build: all that is on record, warm-up included; from the first there is, where the record of what
    parents were made from is not whole."""
    dates = sorted(date for _, date in known.digests)
    end = datetime.date.fromisoformat(dates[-1]) + datetime.timedelta(days=1)
    return ({"start_date": dates[0]} if known.is_whole else {}) | {"end_date": end.isoformat()}


def read_record(path: Path, version: str) -> dict[str, Any]:
    if not path.is_file():
        raise NotVerifiable(
            f"{version} has no {path.name} under {path.parent}, expected a built version; `tickhouse versions list` "
            "tells which there are"
        )
    return yaml_files.read(path)


def _nodes(graph: dict, version: str, resolved: dict[str, Any]) -> list[dict]:
    try:
        return release.version_nodes(graph, version)
    except release.NotReleasable as error:
        commit = resolved["code"]["git_commit"]
        raise NotVerifiable(f"{error}; it was made by commit {commit}: check that out") from None


# -- the scratch root --------------------------------------------------------------------------------------------------


def _prepare(root: Path, scratch: Path) -> None:
    (scratch / "lake").mkdir(parents=True, exist_ok=True)
    if (scratch / "lake" / "silver").exists():
        raise NotVerifiable(f"{scratch} holds a lake already, expected an empty folder; name another")
    for name in LINKED:
        if (root / name).is_dir() and not (scratch / name).exists():
            (scratch / name).symlink_to(root / name, target_is_directory=True)
    if not bronze_dir(root).is_dir():
        raise NotVerifiable(
            f"{bronze_dir(root)} was not there, expected the bronze that the version is made from"
        )


def write_params(scratch: Path, resolved: dict[str, Any]) -> Path:
    """A folder of param sets whose values are those on record."""
    folder = scratch / "params"
    folder.mkdir(exist_ok=True)
    values = yaml.safe_dump(resolved["resolved"], allow_unicode=True)
    (folder / "default.yaml").write_text(values)
    if (name := resolved["param_set"]) != "default":
        (folder / f"{name}.yaml").write_text(f"extends: default\n{values}")
    found = params.load(name, folder).digest
    if found != resolved["params_digest"]:
        raise NotVerifiable(
            f"params.yaml says params_digest {resolved['params_digest'][:8]}…, but its values have {found[:8]}…; "
            "put the file back as it was written"
        )
    return folder


@contextlib.contextmanager
def environment(params_dir: Path, threads: int | None) -> Iterator[None]:
    wanted = {"TICKHOUSE_PARAMS_DIR": str(params_dir)} | (
        {"TICKHOUSE_THREADS": str(threads)} if threads else {}
    )
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def told_of(on_node: Callable[[str], None]) -> Callable[[Any], None]:
    def on_event(event: Any) -> None:
        if event.info.name == "LogModelResult":
            on_node(event.data.node_info.node_name)

    return on_event


def _rebuilt(scratch: Path, dataset: str, date: str, params_digest: str) -> str | None:
    partition = ancestry.partition(scratch, f"{dataset}/{date}", params_digest)
    return partition.commit.content_digest if partition else None
