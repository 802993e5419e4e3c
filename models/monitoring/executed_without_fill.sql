with

verdicts as (

    select
        date,
        client_id,
        status,
        fill_price
    from {{ ref('stop_executions') }}

    union all

    select
        date,
        client_id,
        status,
        fill_price
    from {{ ref('stop_executions_quarantine') }}

)

select
    -- keys
    date,
    client_id,

    -- measures
    count(*) as executed,
    count(*) - count(fill_price) as without_fill
from verdicts
where status = 'EXECUTED'
group by date, client_id
