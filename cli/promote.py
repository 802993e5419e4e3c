"""`tickhouse promote`: make an experiment what serves, if every gate passes."""

import enum
from typing import Annotated

import typer

from cli.output import print_rows, progress, say
from lake.paths import lake_root

app = typer.Typer(add_completion=False)


class Alias(enum.StrEnum):
    """What an experiment becomes."""

    champion = enum.auto()
    challenger = enum.auto()


@app.command(
    epilog="Examples: tickhouse promote exp001 --notes 'first of the season'; tickhouse promote exp002 --as challenger"
)
def promote(
    experiment: Annotated[str, typer.Argument(help="Id or full name, exp001 or exp001_mechanics_only.")],
    alias: Annotated[
        Alias,
        typer.Option("--as", help="champion serves; challenger is compared with it and serves nothing."),
    ] = Alias.champion,
    accept_no_skill: Annotated[
        bool,
        typer.Option("--accept-no-skill", help="Let a first promotion pass without proven skill; recorded."),
    ] = False,
    min_events: Annotated[int, typer.Option(min=1, help="Fewest touches that a table must have.")] = 1_000,
    notes: Annotated[str, typer.Option(help="A remark that is kept with the promotion.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print an array, one object a gate.")] = False,
) -> None:
    """Judge an experiment and its training table by every gate; publish both, or name each gate that failed.

    Exit code 1 when it is refused: nothing that serves has changed then. What serves already is left as it is. A
    challenger passes the same gates, but for being better; its comparison with the champion is kept and shown in the
    report. Promoted without --as it takes the champion's place; `tickhouse rollback --as challenger` withdraws it.
    """
    from ml import promotion  # noqa: PLC0415 (LightGBM takes a second that --help should not pay)

    try:
        done = promotion.promote(
            lake_root(),
            experiment,
            alias=alias,
            accept_no_skill=accept_no_skill,
            min_events=min_events,
            notes=notes,
            on_step=lambda step: progress(f"promote: {step}"),
        )
    except promotion.PromotionRefused as refused:
        print_rows([_row(gate) for gate in refused.gates], as_json=as_json)
        raise
    print_rows([_row(gate) for gate in done.gates] or [done.flat()], as_json=as_json)
    say(f"promote: {done.experiment} {done.state}, table version {done.dataset_version}, {done.rows:,} rows")


def _row(gate: object) -> dict[str, object]:
    return {
        "gate": gate.name,
        "verdict": "passed" if gate.passed else "failed",
        "value": gate.value,
        "why": gate.why,
    }
