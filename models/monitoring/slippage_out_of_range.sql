with

verdicts as (

    select
        date,
        client_id,
        slippage_pct
    from {{ ref('stop_executions') }}

    union all

    select
        date,
        client_id,
        slippage_pct
    from {{ ref('stop_executions_quarantine') }}

)

select
    -- keys
    date,
    client_id,

    -- measures
    count(slippage_pct) as executions_with_slippage,
    -- the bounds themselves are legal (spec/execution.md 4.5)
    count(case when slippage_pct not between -50 and 50 then 1 end) as out_of_range,
    min(slippage_pct) as least_slippage_pct,
    max(slippage_pct) as greatest_slippage_pct
from verdicts
group by date, client_id
