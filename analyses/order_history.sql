-- Orders of one client as they came, in order of time: `--vars '{client_id: 1, start: 2024-01-01, end: 2024-12-27}'`,
-- dates of landing, both inclusive. Without a client there is no row: nobody reads everybody's orders by accident.
select
    transaction_id,
    operation_id,
    client_id,
    transaction_type,
    asset,
    quantity,
    price,
    "timestamp",
    timestamp_basis,
    exchange_ref,
    metadata
from {{ source('bronze', 'orders_v1') }}
where
    client_id = cast({{ var('client_id', none) or 'null' }} as bigint)
    and date between cast('{{ var("start", none) or "0001-01-01" }}' as date)
    and cast('{{ var("end", none) or "9999-12-31" }}' as date)
order by "timestamp", transaction_id
