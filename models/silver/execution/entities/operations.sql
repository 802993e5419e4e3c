{%- set end_of_time = "cast('9999-12-31 00:00:00+00' as timestamp with time zone)" -%}

with

linked as (

    select * from {{ ref('int_operations__linked') }}

),

fills as (

    select * from {{ ref('int_operations__fills') }}

),

costs as (

    select * from {{ ref('int_operations__costs') }}

),

symbols as (

    select * from {{ ref('symbols') }}

),

bars as (

    select * from {{ ref('market_bars_1m') }}

),

-- read for its index alone: which dates' bars an operation lived through
-- depends_on: {{ ref('int_operations__held') }}

of_fills as (

    select
        date,
        client_id,
        operation_id,
        min(symbol) as symbol,
        min(account_type) as account_type,
        min(operation_side) as side,
        count(*) as fill_count,
        cast(count(distinct case when is_entry then order_id end) as integer) as entry_order_count,
        cast(count(distinct case when not is_entry then order_id end) as integer) as exit_order_count,
        min(case when is_entry then exchange_time end) as opened_at,
        max(case when not is_entry then exchange_time end) as last_exit_at,
        max(case when not is_entry then fill_number end) as last_exit_number,
        sum(case when is_entry then quantity else 0 end) as entry_quantity,
        sum(case when is_entry then 0 else quantity end) as exit_quantity,
        sum(case when is_entry then price * quantity else 0 end) as entry_notional,
        sum(case when is_entry then 0 else price * quantity end) as exit_notional,
        max(position_quantity * price) as max_position_notional,
        min(position_quantity) as least_position,
        min(price) as lowest_fill,
        max(price) as highest_fill,
        sum(fee_quote) as fees_quote,
        count(*) - count(fee_quote) as unpriced_fees,
        sum(base_commission) as base_commission,
        bool_or(is_ledger_fill) as has_ledger_fill,
        {{ sorted_values('trade_id', 'bigint') }} as source_trade_ids
    from fills
    group by date, client_id, operation_id

),

stated as (

    select
        linked.date,
        linked.client_id,
        linked.operation_id,
        linked.strategy_id,
        coalesce(linked.symbol, of_fills.symbol) as symbol,
        coalesce(linked.side, of_fills.side) as side,
        case coalesce(linked.side, of_fills.side) when 'SELL' then -1 else 1 end as direction,
        coalesce(linked.account_type, of_fills.account_type) as account_type,
        linked.leverage,
        linked.reference_status,
        linked.planned_quantity,
        linked.stop_price,
        linked.target_price,
        linked.current_execution_id,
        linked.interest_quote,
        linked.funding_quote,
        linked.was_liquidated,
        linked.source_transaction_ids,
        linked.is_reconciled,
        linked.has_reference,
        coalesce(of_fills.fill_count, 0) as fill_count,
        coalesce(of_fills.entry_order_count, 0) as entry_order_count,
        coalesce(of_fills.exit_order_count, 0) as exit_order_count,
        of_fills.opened_at,
        of_fills.last_exit_at,
        of_fills.last_exit_number,
        coalesce(of_fills.entry_quantity, 0) as entry_quantity,
        coalesce(of_fills.exit_quantity, 0) as exit_quantity,
        coalesce(of_fills.entry_quantity, 0) - coalesce(of_fills.exit_quantity, 0) as remaining_quantity,
        coalesce(of_fills.entry_notional, 0) as entry_notional,
        coalesce(of_fills.exit_notional, 0) as exit_notional,
        of_fills.max_position_notional,
        of_fills.least_position,
        of_fills.lowest_fill,
        of_fills.highest_fill,
        case when of_fills.unpriced_fees > 0 then null else coalesce(of_fills.fees_quote, 0) end as fees_quote,
        coalesce(of_fills.has_ledger_fill, false) as has_ledger_fill,
        coalesce(of_fills.source_trade_ids, {{ empty_list('bigint') }}) as source_trade_ids,
        coalesce(symbols.step_size, 0) + coalesce(of_fills.base_commission, 0) as dust_limit
    from linked
    left join of_fills
        on linked.date = of_fills.date
        and linked.client_id = of_fills.client_id
        and linked.operation_id = of_fills.operation_id
    left join symbols on coalesce(linked.symbol, of_fills.symbol) = symbols.symbol

),

judged as (

    select
        *,
        case
            when fill_count = 0 and reference_status = 'CANCELLED' then 'CANCELLED'
            when fill_count = 0 then 'PLANNED'
            when exit_quantity > 0 and remaining_quantity <= dust_limit then 'CLOSED'
            else 'ACTIVE'
        end as status
    from stated

),

lived as (

    select
        *,
        case status when 'CLOSED' then last_exit_at end as closed_at,
        -- full minutes between opening and closing: as many bars there should be
        case status when 'CLOSED' then greatest(
                    floor(date_part('epoch', last_exit_at) / 60) - ceil(date_part('epoch', opened_at) / 60), 0
                )
        end as full_minutes
    from judged

),

of_bars as (

    select
        lived.date,
        lived.client_id,
        lived.operation_id,
        count(*) as bar_count,
        min(bars.low) as lowest,
        max(bars.high) as highest
    from lived
    inner join bars
        on lived.symbol = bars.symbol
        and lived.opened_at <= bars.open_time
        and coalesce(lived.closed_at, {{ end_of_time }}) >= bars.bar_end
    group by lived.date, lived.client_id, lived.operation_id

),

-- The last bar of the dates from its opening on: those dates are read for it, earlier ones for others only.
marks as (

    select
        lived.date,
        lived.client_id,
        lived.operation_id,
        max_by(bars.close, bars.bar_end) as mark_price,
        max(bars.bar_end) as mark_time
    from lived
    inner join bars
        on lived.symbol = bars.symbol
        and cast(lived.opened_at as date) <= bars.date
    where lived.status = 'ACTIVE'
    group by lived.date, lived.client_id, lived.operation_id

),

exits as (

    select
        date,
        client_id,
        operation_id,
        fill_number,
        trigger_type,
        is_order_in_ledger
    from fills

),

valued as (

    select
        lived.*,
        -- amounts, exact
        costs.realised,
        costs.realised_fifo,
        marks.mark_price,
        marks.mark_time,
        costs.remaining_cost,
        costs.remaining_quantity as held_quantity,
        abs(lived.entry_notional - lived.stop_price * lived.entry_quantity) as initial_risk,
        -- d × (price − mean entry) × entry quantity, of the worst and the best price
        case
            when lived.direction = 1 then least(lived.lowest_fill, coalesce(of_bars.lowest, lived.lowest_fill))
            else greatest(lived.highest_fill, coalesce(of_bars.highest, lived.highest_fill))
        end as worst_price,
        case
            when lived.direction = 1 then greatest(lived.highest_fill, coalesce(of_bars.highest, lived.highest_fill))
            else least(lived.lowest_fill, coalesce(of_bars.lowest, lived.lowest_fill))
        end as best_price,
        coalesce(of_bars.bar_count, 0) as bar_count,
        exits.trigger_type,
        exits.is_order_in_ledger
    from lived
    left join costs
        on lived.date = costs.date
        and lived.client_id = costs.client_id
        and lived.operation_id = costs.operation_id
    left join of_bars
        on lived.date = of_bars.date
        and lived.client_id = of_bars.client_id
        and lived.operation_id = of_bars.operation_id
    left join marks
        on lived.date = marks.date
        and lived.client_id = marks.client_id
        and lived.operation_id = marks.operation_id
    left join exits
        on lived.date = exits.date
        and lived.client_id = exits.client_id
        and lived.operation_id = exits.operation_id
        and lived.last_exit_number = exits.fill_number

),

priced as (

    select
        *,
        -- null while not closed, and where a part of it has no price
        case when status = 'CLOSED' then realised - fees_quote - interest_quote + funding_quote end as net,
        case when entry_quantity > 0 then least(0, direction * (worst_price * entry_quantity - entry_notional)) end
            as worst_move,
        case when entry_quantity > 0 then greatest(0, direction * (best_price * entry_quantity - entry_notional)) end
            as best_move
    from valued

),

divided as (

    select
        *,
        cast(net as double) / cast(nullif(initial_risk, 0) as double) as risk_multiple
    from priced

)

select
    -- keys
    date,
    client_id,
    strategy_id,
    operation_id,

    -- reference
    symbol,
    side,
    account_type,
    leverage,
    status,
    planned_quantity,
    stop_price,
    target_price,

    -- time
    opened_at,
    closed_at,
    cast(
        date_part('epoch', date_trunc('second', closed_at)) - date_part('epoch', date_trunc('second', opened_at))
        - case
            when closed_at - date_trunc('second', closed_at) < opened_at - date_trunc('second', opened_at) then 1
            else 0
        end
        as bigint
    ) as holding_sec,

    -- fills
    entry_order_count,
    exit_order_count,
    cast(entry_quantity as decimal(20, 8)) as entry_quantity,
    cast(exit_quantity as decimal(20, 8)) as exit_quantity,
    cast(remaining_quantity as decimal(20, 8)) as remaining_quantity,
    case status when 'CLOSED' then cast(remaining_quantity as decimal(20, 8)) end as dust_quantity,
    {{ money('max_position_notional') }} as max_position_notional,
    {{ money('entry_notional / nullif(entry_quantity, 0)') }} as avg_entry_price,
    {{ money('exit_notional / nullif(exit_quantity, 0)') }} as avg_exit_price,

    -- risk
    {{ money('case when entry_quantity > 0 then initial_risk end') }} as initial_risk_quote,
    {{ percent_points('100.0 * cast(initial_risk as double) / cast(nullif(entry_notional, 0) as double)') }}
        as stop_distance_pct,

    -- profit
    {{ money('coalesce(realised, 0)') }} as gross_pnl,
    {{ money('coalesce(realised_fifo, 0)') }} as gross_pnl_fifo,
    {{ money("case status when 'ACTIVE' then direction * (mark_price * held_quantity - remaining_cost) end") }}
        as unrealized_pnl,
    mark_price,
    mark_time,
    {{ money('fees_quote') }} as fees_quote,
    interest_quote,
    funding_quote,
    {{ money('net') }} as net_pnl,
    {{ percent_points('100.0 * cast(net as double) / cast(nullif(entry_notional, 0) as double)') }} as return_pct,
    cast(sign(risk_multiple) * least(abs(risk_multiple), 999999.9999) as decimal(10, 4)) as r_multiple,
    {{ percent_points('100.0 * cast(worst_move as double) / cast(nullif(entry_notional, 0) as double)') }} as mae_pct,
    {{ percent_points('100.0 * cast(best_move as double) / cast(nullif(entry_notional, 0) as double)') }} as mfe_pct,

    -- how it ended
    case
        when status != 'CLOSED' then null
        when was_liquidated then 'LIQUIDATION'
        when trigger_type is not null then trigger_type
        when is_order_in_ledger then 'MANUAL'
        else 'UNKNOWN'
    end as exit_reason,
    current_execution_id,
    is_reconciled as reconciled,

    -- lineage
    source_transaction_ids,
    source_trade_ids,
    {{ flag_list({
        'BARS_MISSING': 'bar_count < full_minutes',
        'FEE_UNPRICED': 'fees_quote is null',
        'FUNDING_UNPRICED': 'funding_quote is null',
        'INTEREST_UNPRICED': 'interest_quote is null',
        'LEDGER_FILL': 'has_ledger_fill',
        'MARK_MISSING': "status = 'ACTIVE' and mark_price is null",
        'NO_REFERENCE': 'not has_reference',
        'ORDER_MISMATCH': 'not is_reconciled',
        'OVER_EXIT': 'least_position < -dust_limit',
    }) }} as quality_flags,
    {{ build_time() }} as created_at
from divided
