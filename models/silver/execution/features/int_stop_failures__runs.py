"""Runs of failures, where they change. Grain: client_id, symbol, known_at. Maths: physics.failure_runs."""

from physics.failure_runs import failure_runs


def model(dbt, session):
    dbt.config(materialized="dataset")
    built = session.sql("select getvariable('build_date')").fetchone()[0]
    terminals = (
        dbt.ref("int_stop_events__terminals")
        .order("client_id, symbol, occurred_at, is_failure")
        .project(
            "client_id, symbol, epoch_us(occurred_at) as occurred_us, epoch_us(available_at) as available_us, "
            "epoch_us(unusable_from) as unusable_from_us, is_failure, event_seq"
        )
    )
    return failure_runs(terminals.to_arrow_table(), built)
