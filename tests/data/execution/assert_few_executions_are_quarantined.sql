{{ config(group="execution", severity="warn", meta={"across_dates": true}) }}
-- Share of quarantined executions over the last 30 dates and at least 1,000 rows: more than 0.1 % warn
-- (spec/execution.md 4.5).
with

decided as (

    select
        date,
        0 as quarantined
    from {{ ref('stop_executions') }}

    union all

    select
        date,
        1 as quarantined
    from {{ ref('stop_executions_quarantine') }}

),

recent as (

    select quarantined
    from decided
    where date > (select max(newest.date) - 30 from decided as newest)

)

select
    count(*) as executions,
    sum(quarantined) as quarantined
from recent
having count(*) >= 1000 and sum(quarantined) > 0.001 * count(*)
