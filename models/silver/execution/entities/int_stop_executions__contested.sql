with

events as (

    select * from {{ ref('int_stop_events__contested') }}

),

-- The first position of each kind of event tells the state before every event: no step needs the one before it.
folded as (

    select
        date,
        client_id,
        execution_token,

        -- positions, from 1
        count(*) as event_count,
        min(case when state_event = 'TRIGGERED' then event_order end) as first_trigger,
        min(case when state_event = 'SUBMITTED' then event_order end) as first_submit,
        min(case when state_event = 'BLOCKED' then event_order end) as first_block,
        min(case when state_event = 'EXECUTED' then event_order end) as first_execution,
        min(case when state_event = 'FAILED' then event_order end) as first_failure,
        max(case when event_type = 'SLIPPAGE_BREACH' then event_order end) as last_breach,
        max(case when state_event = 'BLOCKED' and event_type != 'SLIPPAGE_BREACH' then event_order end)
            as last_other_block,
        count(case when state_event is null then 1 end) as unknown_events,
        count(case when state_event != 'FAILED' then 1 end) as events_beside_failures,

        -- of the operation
        min_by(operation_id, event_order) filter (where operation_id is not null) as operation_id,
        min_by(symbol, event_order) filter (where symbol is not null) as symbol,
        min_by(side, event_order) filter (where side is not null) as side,
        min_by(strategy_id, event_order) filter (where strategy_id is not null) as payload_strategy_id,
        min_by(entry_placed_at, event_order) filter (where entry_placed_at is not null) as entry_placed_at,
        min_by(entry_time, event_order) filter (where entry_time is not null) as entry_time,

        -- of the level
        min_by(trigger_type, event_order) filter (where trigger_type is not null) as trigger_type,
        min_by(stop_price, event_order) filter (where stop_price is not null) as stop_price,
        min_by(trigger_price, event_order) filter (where trigger_price is not null) as any_trigger_price,
        min_by(entry_price, event_order) filter (where entry_price is not null) as any_entry_price,
        min_by(quantity, event_order) filter (where quantity is not null) as any_quantity,

        -- of the first STOP_TRIGGERED
        {% for name in [
            'trigger_price', 'stop_price', 'entry_price', 'quantity', 'side', 'trigger_type', 'entry_placed_at',
            'entry_time', 'occurred_at', 'available_at', 'price_age_ms', 'spread_bps_at_trigger', 'top_depth_quote'
        ] %}
            {{ first_of(name, 'event_order') }} filter (where state_event = 'TRIGGERED') as trigger_event_{{ name }},
        {%- endfor %}

        -- of the other states
        min_by(occurred_at, event_order) filter (where state_event = 'SUBMITTED') as submit_occurred_at,
        min_by(occurred_at, event_order) filter (where state_event = 'FAILED') as failure_occurred_at,
        min_by(available_at, event_order) filter (where state_event = 'FAILED') as failure_available_at,
        min_by(occurred_at, event_order) filter (where state_event = 'BLOCKED') as block_occurred_at,
        min_by(available_at, event_order) filter (where state_event = 'BLOCKED') as block_available_at,
        min_by(case when event_type = 'BLOCKED' then coalesce(block_reason, '') else event_type end, event_order)
        filter (where state_event = 'BLOCKED') as block_reason,
        max_by(error_message, event_order)
        filter (where state_event = 'FAILED' and error_message is not null) as error_message,

        -- of distinct reports
        max(case when is_report then occurred_at end) as executed_at,
        max(case when is_report then available_at end) as execution_available_at,
        {{ money('sum(case when is_report then quantity end)') }} as executed_quantity,
        sum(case when is_report then {{ exact_product('fill_price', 'quantity') }} end) as filled_notional,
        sum(case when is_report and fill_price is not null then quantity end) as filled_quantity,
        coalesce(bool_or(is_report and is_fill_imputed), false) as is_fill_imputed,
        min_by(exchange_order_id, event_order)
        filter (where is_report and exchange_order_id is not null) as exchange_order_id,
        max_by(slippage_pct, event_order) filter (where is_report and slippage_pct is not null)
            as reported_slippage_pct,
        {{ together(
            'case when is_report then '
            ~ paid_fees('commissions', 'fee_asset', 'fee', 'fill_price', 'coalesce(exchange_time, occurred_at)') ~ ' end'
        ) }} as exit_fees,

        -- lineage
        min_by(source, event_order) filter (where source is not null) as source,
        max_by(source, event_order) filter (where state_event in ('EXECUTED', 'FAILED')) as execution_source,
        max(retry_count) as retry_count,
        min(event_seq) as first_event_seq,
        max(event_seq) as last_event_seq,
        min_by(occurred_at, event_order) as first_event_at,
        max(ingested_at) as last_ingested_at,
        {{ sorted_list('event_id') }} as source_event_ids,
        {{ sorted_list('stream_seq') }} as stream_seqs,
        bool_or(has_null_seq) as has_null_seq,
        bool_or(is_shared) as is_shared,
        bool_or(is_provisional) as is_provisional
    from events
    group by date, client_id, execution_token

),

-- The closed form of the table of transitions. BLOCKED counts while nothing was submitted, and nothing after the first
-- terminal event counts but a fill.
effective as (

    select
        *,
        coalesce(first_trigger = 1, false) as is_triggered,
        case
            when
                first_block is not null
                and coalesce(first_block < first_submit, true)
                and coalesce(first_block < first_failure, true)
                and coalesce(first_block < first_execution, true)
                then first_block
        end as effective_block
    from folded

),

resolved as (

    select
        *,
        case
            when
                first_failure is not null
                and coalesce(first_failure < first_execution, true)
                and coalesce(first_failure < effective_block, true)
                then first_failure
        end as effective_failure
    from effective

)

select
    -- keys
    date,
    client_id,
    execution_token,

    -- of the operation
    operation_id,
    symbol,
    side,
    payload_strategy_id,

    -- of the level
    trigger_type,
    stop_price,
    coalesce(trigger_event_trigger_price, any_trigger_price) as trigger_price,
    coalesce(trigger_event_entry_price, any_entry_price) as entry_price,
    entry_placed_at,
    entry_time,
    coalesce(trigger_event_quantity, any_quantity) as quantity,

    -- what became of it
    case
        when unknown_events > 0 then null
        when first_execution is not null then 'EXECUTED'
        when effective_failure is not null then 'FAILED'
        when effective_block is not null then 'BLOCKED'
        when first_submit is not null then 'SUBMITTED'
        else 'PENDING'
    end as status,
    case when is_triggered then trigger_event_occurred_at end as triggered_at,
    case
        when
            coalesce(first_submit < first_execution, true)
            and coalesce(first_submit < effective_failure, true)
            and coalesce(first_submit < effective_block, true)
            then submit_occurred_at
    end as submitted_at,
    executed_at,
    case when effective_failure is not null then failure_occurred_at end as failed_at,
    case when effective_block is not null then block_occurred_at end as blocked_at,
    case when effective_block is not null then nullif(block_reason, '') end as block_reason,
    exchange_order_id,
    executed_quantity,
    cast(filled_notional as decimal(38, 16)) as filled_notional,
    cast(filled_quantity as decimal(38, 8)) as filled_quantity,
    is_fill_imputed,
    error_message,
    reported_slippage_pct,
    exit_fees,

    -- of the first STOP_TRIGGERED, and when it and the end could be known
    trigger_event_stop_price,
    trigger_event_entry_price,
    trigger_event_trigger_price,
    trigger_event_quantity,
    trigger_event_side,
    trigger_event_trigger_type,
    trigger_event_entry_placed_at,
    trigger_event_entry_time,
    case when is_triggered then trigger_event_available_at end as trigger_available_at,
    case
        when first_execution is not null then execution_available_at
        when effective_failure is not null then failure_available_at
        when effective_block is not null then block_available_at
    end as terminal_available_at,
    trigger_event_price_age_ms as price_age_ms,
    trigger_event_spread_bps_at_trigger as spread_bps_at_trigger,
    trigger_event_top_depth_quote as top_depth_quote,

    -- positions
    first_submit,
    first_execution,
    effective_failure,
    effective_block,

    -- lineage
    source,
    execution_source,
    retry_count,
    cast(event_count as integer) as event_count,
    first_event_seq,
    last_event_seq,
    first_event_at,
    last_ingested_at,
    source_event_ids,
    stream_seqs,

    -- flags
    is_provisional,
    has_null_seq,
    is_shared,
    coalesce(events_beside_failures = 0, false) as is_lone_failure,
    coalesce(last_breach > first_execution, false) as has_post_trade_breach,
    coalesce(last_other_block > first_execution, false) as has_block_after_executed
from resolved
