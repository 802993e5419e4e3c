-- Share of quarantined executions over the last 30 dates and at least 1,000 rows: more than 0.1 % warn, more than 1 %
-- fail (spec/execution.md 4.5). Counted in executions of a million, rounded up: one over the share is over it.
{{ config(
    group="execution",
    meta={"across_dates": true},
    fail_calc="coalesce(max(quarantined_of_a_million), 0)",
    warn_if="> 1000",
    error_if="> 10000",
) }}
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
    sum(quarantined) as quarantined,
    cast(ceil(1000000.0 * sum(quarantined) / count(*)) as bigint) as quarantined_of_a_million
from recent
having count(*) >= 1000 and sum(quarantined) > 0
