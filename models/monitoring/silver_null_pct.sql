with

executions as (

    select * from {{ ref('stop_executions') }}

)

select
    -- keys
    date,

    -- measures
    count(*) as total_rows,
    count(execution_id) as non_null_executions,
    count(fill_price) as non_null_fill_prices,
    100.0 * (count(*) - count(fill_price)) / nullif(count(*), 0) as null_fill_price_pct
from executions
group by date
