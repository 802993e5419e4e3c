"""What the trades of each outcome window did first. Grain: observation_id. Maths: physics.outcomes."""

import json

from physics.order import unfilled
from physics.outcomes import first_passage


def model(dbt, session):
    dbt.config(materialized="dataset")
    params = json.loads(session.sql("select getvariable('p_params')").fetchone()[0])
    known = json.loads(session.sql("select getvariable('known_futures_trades')").fetchone()[0])
    front = dbt.ref("dim_front_month").project("contract").fetchone()
    prints = dbt.ref("stg_futures__trades").filter(f"contract = '{front[0] if front else ''}'")
    trades = prints.project("ts_event_ns, sequence, ordinal, tick").to_arrow_table()
    return first_passage(
        dbt.ref("int_labels__windows").to_arrow_table(),
        trades,
        LOOKFORWARD_MINUTES=params["LOOKFORWARD_MINUTES"],
        GAP_S=params["GAP_S"],
        gaps=unfilled(known["gaps"], front[0] if front else None, trades),
    )
