"""Realised profit and what is left of each operation. Grain: client_id, operation_id. Maths: physics.position_cost."""

from physics.position_cost import position_costs


def model(dbt, session):
    dbt.config(materialized="dataset")
    fills = dbt.ref("int_operations__fills").order("date, client_id, operation_id, fill_number")
    columns = "date, client_id, operation_id, fill_number, is_entry, is_long, price, quantity"
    return position_costs(fills.project(columns).to_arrow_table(), keys=("date", "client_id", "operation_id"))
