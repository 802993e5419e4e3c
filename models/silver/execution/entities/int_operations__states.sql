with

landed as (

    select * from {{ ref('stg_execution__operations') }}
    where {{ is_built_date('created_date') }}

)

select
    -- keys
    created_date as date,
    client_id,
    operation_id,
    updated_at,

    -- what came
    strategy_id,
    symbol,
    side,
    account_type,
    status,
    planned_quantity,
    stop_price,
    target_price,
    leverage,
    created_at
from landed
-- A state that came on two bronze dates is one: the first landing, as staging has it within a date.
qualify row_number() over (
        partition by created_date, client_id, operation_id, updated_at
        order by loaded_at, landed.date
    ) = 1
