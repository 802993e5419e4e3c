"""All that a partition was made from, down to bronze: what its records name, and theirs in turn."""

from collections.abc import Mapping
from pathlib import Path

from lake import active
from lake.commits import Partition, read_keyed, read_partition

Inputs = dict[
    str, str
]  # `<dataset>/<date>`, `bronze/<source>/<date>/<hour>/<file>`, `seed/…`, `gaps/…`: digest


def walk(root: Path, inputs: Mapping[str, str], params_digest: str | None) -> Inputs:
    """``inputs`` of one partition and those of every partition among them, in order of name.

    A parent that has been built anew since is named by the digest that was read, and not followed: what it was made
    from then is no longer on record.
    """
    found: Inputs = {}
    todo = list(inputs.items())
    while todo:
        name, digest = todo.pop()
        if name in found:
            continue
        found[name] = digest
        parent = partition(root, name, params_digest)
        if parent is not None and parent.commit.content_digest == digest:
            todo += parent.commit.inputs.items()
    return dict(sorted(found.items()))


def partition(root: Path, name: str, params_digest: str | None) -> Partition | None:
    """The committed partition that an input's name means, None for bronze, seeds and what is not there.

    A dataset that is built per param set is read in the set of its reader.
    """
    dataset, _, date = name.rpartition("/")
    if not dataset.startswith(("silver/", "gold/")):
        return None
    folder = root / "lake" / active.folder(root, dataset)
    if params_digest is not None and (folder / f"params={params_digest[:8]}").is_dir():
        folder = folder / f"params={params_digest[:8]}"
    return read_partition(folder / f"date={date}") or read_keyed(folder, date)


def changed(before: Mapping[str, str], after: Mapping[str, str], kind: str = "") -> list[str]:
    """Names, of those that begin with ``kind``, whose digest differs, each with `(new)` or `(gone)` where it is."""
    names = sorted(
        n for n in before.keys() | after.keys() if n.startswith(kind) and before.get(n) != after.get(n)
    )
    return [n + ("" if n in before and n in after else " (new)" if n in after else " (gone)") for n in names]
