"""What is left of each operation at a snapshot. Grain: client_id, snapshot_time, operation_id.

Maths: physics.position_cost.
"""

from physics.position_cost import position_costs


def model(dbt, session):
    dbt.config(materialized="dataset")
    fills = dbt.ref("int_portfolio__open_fills").order("client_id, snapshot_time, operation_id, fill_number")
    columns = "date, client_id, snapshot_time, operation_id, symbol, is_long, fill_number, is_entry, price, quantity"
    keys = ("date", "client_id", "snapshot_time", "operation_id", "symbol", "is_long")
    return position_costs(fills.project(columns).to_arrow_table(), keys=keys)
