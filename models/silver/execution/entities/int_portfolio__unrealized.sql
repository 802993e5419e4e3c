-- Stands in until fills are a relation: no operation is known to be open.
with

equity as (

    select * from {{ ref('int_portfolio__equity') }}

)

select
    date,
    client_id,
    snapshot_time,
    cast(0 as decimal(20, 8)) as unrealized_pnl,
    false as is_unpriced
from equity
