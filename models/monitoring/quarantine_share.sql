{%- set quality_rules = [
    'REQUIRED_NULL', 'SLIPPAGE_RANGE', 'EXECUTED_NO_FILL', 'TIME_ORDER', 'NONPOSITIVE', 'TENANT_MISMATCH',
] -%}
with

executions as (

    select
        date,
        0 as is_quarantined,
        cast(null as varchar) as broken_rules
    from {{ ref('stop_executions') }}

    union all

    select
        date,
        1 as is_quarantined,
        ''
        {%- for quality_rule in quality_rules %}
            || case when array_contains(failed_rules, '{{ quality_rule }}') then '{{ quality_rule }},' else '' end
        {%- endfor %} as broken_rules
    from {{ ref('stop_executions_quarantine') }}

),

-- the last 30 days that there are: without new rows the last verdict stands
newest as (

    select max(date) as last_date
    from executions

),

recent as (

    select
        executions.is_quarantined,
        executions.broken_rules,
        newest.last_date
    from newest
    left join executions on newest.last_date - 30 < executions.date

),

counted as (

    select
        'any' as quality_rule,
        count(is_quarantined) as executions,
        coalesce(sum(is_quarantined), 0) as quarantined_rows,
        max(last_date) as last_date
    from recent
    {%- for quality_rule in quality_rules %}

        union all

        select
            '{{ quality_rule }}' as quality_rule,
            count(is_quarantined) as executions,
            count(case when broken_rules like '%{{ quality_rule }},%' then 1 end) as quarantined_rows,
            max(last_date) as last_date
        from recent
    {%- endfor %}

)

select
    -- keys
    quality_rule,

    -- measures
    executions,
    cast(quarantined_rows as bigint) as quarantined_rows,
    100.0 * quarantined_rows / nullif(executions, 0) as share_pct,

    -- flags
    case
        when executions < 1000 then 'too few'
        when 100.0 * quarantined_rows > 1.0 * executions then 'fail'
        when 100.0 * quarantined_rows > 0.1 * executions then 'warn'
        else 'ok'
    end as status,

    -- time
    last_date
from counted
