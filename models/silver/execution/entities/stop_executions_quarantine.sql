with

folded as (

    select * from {{ ref('int_stop_executions__folded') }}

),

settled as (

    select * from {{ ref('int_stop_executions__settled') }}

)

select
    -- keys
    folded.date,
    folded.client_id,
    folded.execution_token,
    folded.execution_id,

    -- of the operation
    folded.operation_id,
    folded.symbol,
    folded.side,
    settled.strategy_id,

    -- of the level
    folded.trigger_type,
    folded.stop_price,
    folded.trigger_price,
    folded.entry_price,
    settled.entry_placed_at,
    settled.entry_time,
    folded.quantity,

    -- what became of it
    folded.status,
    folded.triggered_at,
    folded.submitted_at,
    folded.executed_at,
    folded.failed_at,
    folded.blocked_at,
    folded.block_reason,
    folded.exchange_order_id,
    folded.executed_quantity,
    folded.fill_price,
    folded.error_message,

    -- what it cost
    folded.slippage_pct,
    folded.slippage_vs_trigger_pct,
    folded.detection_gap_pct,
    folded.abs_slippage_pct,
    folded.reported_slippage_pct,
    settled.fee_quote,
    folded.gross_pnl,
    {{ money('folded.gross_pnl - settled.fee_quote') }} as net_pnl,

    -- lineage
    folded.source,
    folded.execution_source,
    folded.retry_count,
    folded.event_count,
    folded.first_event_seq,
    folded.last_event_seq,
    folded.source_event_ids,
    {{ build_time() }} as created_at,

    -- flags
    settled.is_current,
    folded.is_provisional,
    {{ merged_list('folded.quality_flags', flag_list({
        'FEE_MISSING': "folded.status = 'EXECUTED' and folded.exit_fees is null",
        'FEE_UNPRICED': 'settled.is_fee_unpriced',
        'FILL_WITHOUT_EVENT': 'settled.unreported_fill_at is not null',
        'UNKNOWN_OPERATION': 'settled.is_operation_unknown',
    })) }} as quality_flags,

    -- judgement
    folded.failed_rules
from folded
inner join settled
    on
    folded.date = settled.date and folded.client_id = settled.client_id
    and folded.execution_token = settled.execution_token
where not {{ is_empty_list('folded.failed_rules') }}
