"""``meta.path_keys``: the columns of a dataset that stand in the path beside the date (architecture D2)."""

TYPES = ("bigint", "integer", "smallint", "varchar")


class PathKeyError(ValueError):
    """A model's ``meta.path_keys`` can't be columns of a path."""


def declared(node: dict) -> dict[str, str]:
    """Columns that stand in the path beside the date, with their SQL types; raises PathKeyError in one line."""
    meta = node["config"].get("meta") or {}
    names = meta.get("path_keys") or []
    if not names:
        return {}
    types = {name: str(node["columns"].get(name, {}).get("data_type")).lower() for name in names}
    if len(types) != len(names) or not set(types.values()) <= set(TYPES):
        raise PathKeyError(
            f"{node['name']}: meta.path_keys was {names}, expected a list of its columns, each of type "
            f"{', '.join(TYPES)}"
        )
    if meta.get("partition") != "date" or meta.get("per_params") or meta.get("version_name"):
        raise PathKeyError(
            f"{node['name']}: meta.path_keys stands with `partition: date` alone, not with param sets or versions"
        )
    return types


def row_order(node: dict) -> list[str]:
    """Columns that order the rows of a partition: its path keys, then its key."""
    keys = list(declared(node))
    return keys + [c for c in node["config"]["meta"]["key"] if c not in keys]
