{{ config(group="execution") }}
-- Before rounding, slippage = detection gap + slippage against the trigger × trigger / level (spec/execution.md
-- 4.3), to 1e-9 of the greatest of them; what is stored is it to 4 decimals.
with

executions as (

    select * from {{ ref('stop_executions') }}
    where slippage_pct is not null and slippage_vs_trigger_pct is not null

),

measured as (

    select
        client_id,
        execution_token,
        slippage_pct,
        {{ adverse_percent('side', 'stop_price', 'fill_price') }} as slippage,
        {{ adverse_percent('side', 'stop_price', 'trigger_price') }} as gap,
        {{ adverse_percent('side', 'trigger_price', 'fill_price') }}
        * cast(trigger_price as double) / cast(stop_price as double) as execution_cost
    from executions

)

select * from measured
where
    abs(slippage - gap - execution_cost) > 1e-9 * greatest(1, abs(slippage), abs(gap), abs(execution_cost))
    or abs(slippage - slippage_pct) > 0.00005000001
