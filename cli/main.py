"""The `tickhouse` command. Groups are imported when they are called, so that `--help` stays instant."""

import logging
import os
import signal
import sys

import typer

from cli.lazy import Commands, lazy_group
from lake.paths import PROJECT_DIR

# name: (module, one line of help). The module holds a Typer app called `app`.
COMMANDS: Commands = {
    "simulate": ("cli.simulate", "Write raw files out of the simulator."),
    "ingest": ("cli.ingest", "Land raw files as bronze."),
    "seal": ("cli.seal", "Make hour windows of execution bronze immutable."),
    "compact": ("cli.compact", "Merge the small files of bronze hours."),
    "manifest": ("cli.manifest", "Write the readable roll-ups of raw and bronze."),
    "retention": ("cli.retention", "Archive what is old; delete what the archive holds."),
    "contract": ("cli.contract", "Compare, check, write and publish the contracts of datasets."),
    "backfill": ("cli.backfill", "Make another version of a dataset, compare it and swap it in."),
    "tenant": ("cli.tenant", "Export the rows of one tenant."),
    "status": ("cli.status", "Show what is landed and built, and how fresh it is."),
    "versions": ("cli.versions", "List, show, compare, release and archive feature versions."),
    "verify": ("cli.verify", "Build a version again elsewhere and compare digests."),
    "experiments": ("cli.experiments", "List, show, compare and register experiments."),
    "training-sets": ("cli.training_sets", "Publish, list, show and verify training sets."),
    "train": ("cli.train", "Train on a gold table and write an experiment."),
    "evaluate": ("cli.evaluate", "Backtest experiments and write the report."),
    "promote": ("cli.promote", "Make an experiment what serves, if every gate passes."),
    "rollback": ("cli.rollback", "Serve an earlier promotion again."),
    "run": ("cli.run", "Run a job of jobs.yaml: bronze-ingest, silver-transform, gold-features."),
    "schedule": ("cli.schedule", "Print what runs the jobs by the clock: cron, systemd, Kubernetes."),
    "demo": ("cli.demo", "Simulate, ingest, build and train; report what was made and where."),
    "doctor": ("cli.doctor", "Check the environment and the lake."),
}
app = typer.Typer(
    cls=lazy_group(COMMANDS),
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(
    epilog="Example: tickhouse demo --sessions 20. LAKE_ROOT moves the lake; TICKHOUSE_DEBUG=1: tracebacks."
)
def root() -> None:
    """A lakehouse for trading research: raw ticks in, trained models out."""


def main() -> None:
    """Run the command line. Exit code 0 is success, 1 a failure told in one line, 2 a wrong call."""
    debug = os.environ.get("TICKHOUSE_DEBUG") == "1"
    # Compiled kernels are kept beside the project wherever the command is called from.
    os.environ.setdefault("NUMBA_CACHE_DIR", str(PROJECT_DIR / ".numba_cache"))
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.INFO if sys.stderr.isatty() else logging.WARNING,
        format="%(levelname)s %(name)s %(message)s",
    )
    signal.signal(signal.SIGINT, _interrupted)
    try:
        app(prog_name="tickhouse")
    except BrokenPipeError:  # `tickhouse status | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if debug or not is_told(error):
            raise
        print(f"tickhouse: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _interrupted(number: int, frame: object) -> None:
    print(
        "tickhouse: interrupted; what wasn't finished leaves nothing half-done: run it again", file=sys.stderr
    )
    raise KeyboardInterrupt


def is_told(error: Exception) -> bool:
    """Return whether ``error`` explains itself: our own classes do, and checks of input, and the system."""
    ours = type(error).__module__.partition(".")[0] in {"cli", "ingest", "lake", "ml", "physics", "serve"}
    return ours or isinstance(error, ValueError | RuntimeError | OSError)


def one_line(error: BaseException) -> str:
    """Return what ``error`` says on a single line; its class name when it says nothing."""
    if isinstance(error, OSError) and error.filename:
        return (
            f"{error.filename}: {error.strerror}; mend that and run again, or set LAKE_ROOT to another folder"
        )
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
