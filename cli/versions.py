"""`tickhouse versions`: feature versions, and what becomes of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import print_rows, progress, say
from lake.paths import lake_root

app = typer.Typer(add_completion=False, no_args_is_help=True)

Root = Annotated[Path | None, typer.Option(help="Root of the lake; default LAKE_ROOT, else data/.")]
Json = Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")]
Version = Annotated[str, typer.Argument(help="Version, such as v2.0_full_ensemble.")]


@app.command("list", epilog="Example: tickhouse versions list")
def list_(*, root: Root = None, as_json: Json = False) -> None:
    """List every version that was ever built: its state, dates, rows, params and digests (short in the table)."""
    from ml import silver  # noqa: PLC0415  # a second of imports that --help should not pay

    rows = silver.list_versions(_place(root))
    if not as_json:
        rows = [{k: v[:8] if k.endswith("_digest") else v for k, v in row.items()} for row in rows]
    print_rows(rows, as_json=as_json)
    if not rows:
        say("no version is built; run `dbt build --select +touch_features.v1_0`")


@app.command(epilog="Example: tickhouse versions show v1.0_mechanics_only | grep null_rates")
def show(version: Version, *, root: Root = None, as_json: Json = False) -> None:
    """Show a version's manifest and its resolved parameters, one line for each value."""
    from ml import silver  # noqa: PLC0415

    place = _place(root)
    rows = [
        {"file": name, "key": key, "value": value}
        for name, content in (
            ("manifest.yaml", silver.get_manifest(place, version)),
            ("params.yaml", silver.get_params(place, version)),
        )
        for key, value in flat(content)
    ]
    print_rows(rows, as_json=as_json)


@app.command(epilog="Example: tickhouse versions compare v1.0_mechanics_only v2.0_full_ensemble")
def compare(
    a: Annotated[str, typer.Argument(help="The version that is compared with.")],
    b: Annotated[str, typer.Argument(help="The version that is compared.")],
    *,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Say what B has that A has not: features, parameters, null rates, metrics of the newest experiment of each.

    `tickhouse experiments compare` besides compares distributions and label rates.
    """
    from ml import silver  # noqa: PLC0415

    found = silver.compare_versions(_place(root), a, b)
    rows = [
        {"what": what, "name": name, "a": None, "b": None}
        for what in ("features_added", "features_removed", "features_common")
        for name in found[what]
        if as_json or what != "features_common"
    ]
    rows.append(
        {"what": "feature_count", "name": None, "a": found["feature_count_a"], "b": found["feature_count_b"]}
    )
    for what in ("parameters_diff", "null_rate_diff", "metric_diff"):
        rows += [
            {"what": what, "name": name, "a": _cell(both["a"]), "b": _cell(both["b"])}
            for name, both in found[what].items()
        ]
    print_rows(rows, as_json=as_json)


@app.command(epilog="Example: tickhouse versions release v1.0_mechanics_only")
def release(version: Version, *, root: Root = None, as_json: Json = False) -> None:
    """Release a version: from then on none of its dates changes.

    It needs a date, and every date, of its training table too, must be ok and up to date. Builds then refuse what
    would change it (E_RELEASED_CHANGED, E_RELEASED_APPEND), and keep its rows where bronze came late
    (E_INPUT_CHANGED, a row of monitoring.version_warnings).
    """
    from ml import silver  # noqa: PLC0415

    progress(f"looking whether {version} is up to date")
    _print_state(version, silver.release_version(_place(root), version), as_json)


@app.command(epilog="Example: tickhouse versions archive v1.1_ta_only")
def archive(version: Version, *, root: Root = None, as_json: Json = False) -> None:
    """Move a version's dates into one tar under lake/archive; its manifest and its experiments stay.

    Nothing builds it from then on. `tar -C lake/silver/features -xf TAR` brings its files back for reading.
    """
    from ml import silver  # noqa: PLC0415

    progress(f"packing {version}")
    _print_state(version, silver.archive_version(_place(root), version), as_json)


def flat(content: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Every value of nested mappings and lists under its dotted key; a list of plain values stays one, joined."""
    if isinstance(content, dict):
        return [pair for k, v in content.items() for pair in flat(v, f"{prefix}.{k}" if prefix else str(k))]
    if isinstance(content, list) and any(isinstance(item, dict) for item in content):
        return [pair for i, v in enumerate(content) for pair in flat(v, f"{prefix}.{_name(v, i)}")]
    return [(prefix, _cell(content))]


def _name(item: Any, index: int) -> str:
    return str(item["date"]) if isinstance(item, dict) and "date" in item else str(index)


def _cell(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _print_state(version: str, manifest: dict[str, Any], as_json: bool) -> None:
    row = {
        "version": version,
        "status": manifest["status"],
        "dates": len(manifest["dates"]),
        "rows": manifest["validation"]["row_count"],
        "build_digest": manifest["digests"]["build"],
    }
    print_rows([row], as_json=as_json)


def _place(root: Path | None) -> Path:
    return root.expanduser().resolve() if root else lake_root()
