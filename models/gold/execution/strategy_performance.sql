with

operations as (

    select * from {{ ref('operations') }}

),

closed as (

    select
        client_id,
        strategy_id,
        operation_id,
        closed_at,
        net_pnl,
        sum(net_pnl) over so_far as running_pnl
    from operations
    where status = 'CLOSED'
    window so_far as (
        partition by client_id, strategy_id
        order by closed_at, operation_id
        rows between unbounded preceding and current row
    )

),

-- Before the first trade there is nothing won.
drawn as (

    select
        *,
        greatest(0, max(running_pnl) over (
            partition by client_id, strategy_id
            order by closed_at, operation_id
            rows between unbounded preceding and current row
        )) - running_pnl as drawdown
    from closed

),

trades as (

    select
        client_id,
        strategy_id,
        count(*) as total_trades,
        count(case when net_pnl > 0 then 1 end) as winning_trades,
        count(*) - count(net_pnl) as unpriced_trades,
        sum(net_pnl) as total_pnl,
        max(drawdown) as max_drawdown
    from drawn
    group by client_id, strategy_id

),

-- An operation is open from its first fill to its last, at the most that it held. One that ends makes room for one that
-- begins at the same instant.
changes as (

    select
        client_id,
        strategy_id,
        operation_id,
        opened_at as changed_at,
        1 as change_order,
        max_position_notional as notional
    from operations
    where opened_at is not null

    union all

    select
        client_id,
        strategy_id,
        operation_id,
        closed_at as changed_at,
        0 as change_order,
        -max_position_notional as notional
    from operations
    where opened_at is not null and closed_at > opened_at

    union all

    -- one that ends where it begins
    select
        client_id,
        strategy_id,
        operation_id,
        closed_at as changed_at,
        2 as change_order,
        -max_position_notional as notional
    from operations
    where opened_at is not null and closed_at <= opened_at

),

exposures as (

    select
        client_id,
        strategy_id,
        sum(notional) over (
            partition by client_id, strategy_id
            order by changed_at, change_order, operation_id
            rows between unbounded preceding and current row
        ) as exposure
    from changes

),

most_exposed as (

    select
        client_id,
        strategy_id,
        max(exposure) as max_exposure
    from exposures
    group by client_id, strategy_id

)

select
    -- keys
    most_exposed.client_id,
    most_exposed.strategy_id,

    -- measures
    cast(coalesce(trades.total_trades, 0) as integer) as total_trades,
    cast(coalesce(trades.winning_trades, 0) as integer) as winning_trades,
    {{ percent_points('100.0 * trades.winning_trades / nullif(trades.total_trades, 0)') }} as win_rate,
    {{ money('trades.total_pnl') }} as total_pnl,
    {{ money('trades.total_pnl / nullif(trades.total_trades - trades.unpriced_trades, 0)') }} as average_pnl,
    {{ money('trades.max_drawdown') }} as max_drawdown_quote,
    {{ money('most_exposed.max_exposure') }} as max_exposure_quote,
    cast(coalesce(trades.unpriced_trades, 0) as integer) as unpriced_trades
from most_exposed
left join trades
    on most_exposed.client_id = trades.client_id
    and most_exposed.strategy_id = trades.strategy_id
