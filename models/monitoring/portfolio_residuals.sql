with

days as (

    select * from {{ ref('portfolio_daily') }}

),

operations as (

    select * from {{ ref('operations') }}

),

open_costs as (

    select * from {{ ref('int_portfolio__costs') }}

),

fills as (

    select * from {{ ref('fills') }}

),

ledger as (

    select * from {{ ref('ledger') }}

),

flows as (

    select * from {{ ref('int_portfolio__flows') }}

),

-- Whatever changed a client's equity, by its own time. An amount in another currency than the portfolio's isn't known.
realised as (

    select
        operations.client_id,
        operations.closed_at as happened_at,
        case when symbols.quote_asset = {{ portfolio_quote() }} then operations.gross_pnl end as amount
    from operations
    left join {{ ref('symbols') }} as symbols on operations.symbol = symbols.symbol
    where operations.status = 'CLOSED'

),

fees as (

    select
        client_id,
        exchange_time as happened_at,
        case when quote_asset = {{ portfolio_quote() }} then -fee_quote end as amount
    from fills

),

charges as (

    select
        client_id,
        event_time as happened_at,
        case
            when quote_asset != {{ portfolio_quote() }} then null
            when transaction_type != 'FUNDING_FEE' then -value_quote
            when exchange_income is not null then exchange_income * asset_price
            when total_value is not null then total_value
            else -value_quote
        end as amount
    from ledger
    where
        status in ('FILLED', 'PARTIALLY_FILLED')
        and (
            transaction_type in ('INTEREST_CHARGED', 'FUNDING_FEE')
            -- one that belongs to an operation is the commission of its fills
            or (transaction_type in ('TRADING_FEE', 'FEE_PAID') and related_operation_id is null)
        )

),

changes as (

    select
        client_id,
        happened_at,
        amount as profit,
        0 as flow,
        case when amount is null then 1 else 0 end as is_unknown
    from realised

    union all

    select
        client_id,
        happened_at,
        amount as profit,
        0 as flow,
        case when amount is null then 1 else 0 end as is_unknown
    from fees

    union all

    select
        client_id,
        happened_at,
        amount as profit,
        0 as flow,
        case when amount is null then 1 else 0 end as is_unknown
    from charges

    union all

    select
        client_id,
        event_time as happened_at,
        0 as profit,
        value_quote as flow,
        case when value_quote is null then 1 else 0 end as is_unknown
    from flows

),

timeline as (

    select
        *,
        0 as is_snapshot
    from changes

    union all

    select
        client_id,
        snapshot_time as happened_at,
        0 as profit,
        0 as flow,
        0 as is_unknown,
        1 as is_snapshot
    from days

),

running as (

    select
        client_id,
        happened_at,
        is_snapshot,
        sum(coalesce(profit, 0)) over so_far as profit,
        sum(coalesce(flow, 0)) over so_far as flow,
        sum(is_unknown) over so_far as unknown_amounts
    from timeline
    window so_far as (
        partition by client_id order by happened_at, is_snapshot rows between unbounded preceding and current row
    )

),

-- What operations that were open at a snapshot had realised by then.
realised_open as (

    select
        client_id,
        snapshot_time,
        sum(realised) as profit
    from open_costs
    group by client_id, snapshot_time

),

stands as (

    select
        days.date,
        days.client_id,
        days.snapshot_time,
        days.total_equity_quote as equity,
        days.unrealized_pnl as unrealized,
        running.profit + coalesce(realised_open.profit, 0) as profit,
        running.flow,
        running.unknown_amounts
    from days
    inner join running
        on days.client_id = running.client_id
        and days.snapshot_time = running.happened_at
        and running.is_snapshot = 1
    left join realised_open
        on days.client_id = realised_open.client_id
        and days.snapshot_time = realised_open.snapshot_time

),

periods as (

    select
        date,
        client_id,
        lag(snapshot_time) over in_time as period_start,
        snapshot_time as period_end,
        equity - lag(equity) over in_time as equity_change,
        profit - lag(profit) over in_time as realized_net,
        unrealized - lag(unrealized) over in_time as unrealized_change,
        flow - lag(flow) over in_time as external_flow,
        unknown_amounts - lag(unknown_amounts) over in_time as unknown_amounts
    from stands
    window in_time as (partition by client_id order by snapshot_time)

)

select
    -- keys
    date,
    client_id,
    period_start,
    period_end,

    -- measures
    {{ money('equity_change') }} as equity_change,
    {{ money('realized_net') }} as realized_net,
    {{ money('unrealized_change') }} as unrealized_change,
    {{ money('external_flow') }} as external_flow,
    cast(unknown_amounts as integer) as unknown_amounts,
    case
        when unknown_amounts = 0
            then {{ money('equity_change - realized_net - unrealized_change - external_flow') }}
    end as residual
from periods
where period_start is not null
