"""Every change of the front contract's best bid or ask. Grain: ts_event_ns, sequence, ordinal. Maths: physics.book."""

import json

import pyarrow as pa

from physics.book import BBO_SCHEMA, bbo_changes, session_records


def model(dbt, session):
    dbt.config(materialized="dataset")
    params = json.loads(session.sql("select getvariable('p_params')").fetchone()[0])
    known = json.loads(session.sql("select getvariable('known_futures_mbp10')").fetchone()[0])
    day = dbt.ref("dim_session").to_arrow_table().to_pylist()[0]
    front = dbt.ref("dim_front_month").project("contract").fetchone()
    records, missing = session_records(
        dbt.ref("stg_futures__mbp10"),
        contract=front[0] if front else None,
        from_ns=day["globex_open_ns"],
        until_ns=day["globex_close_ns"],
        known=known,
    )
    return pa.RecordBatchReader.from_batches(
        BBO_SCHEMA, bbo_changes(records, gap_s=params["GAP_S"], **missing)
    )
