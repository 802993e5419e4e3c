with

landed as (

    select * from {{ source('bronze', 'events') }}

),

event_types as (

    select * from {{ ref('event_types') }}

),

-- Delivery is at least once. The first landing of a key is kept; a row of equal hash is a copy, one of another hash a
-- conflict. Few keys come twice: only theirs are numbered.
resent as (

    select
        date,
        event_id
    from landed
    group by date, event_id
    having count(*) > 1

),

numbered as (

    select
        landed.*,
        1 as arrival_order,
        1 as landed_rows,
        cast(null as varchar) as other_row_hash
    from landed
    left join resent on landed.date = resent.date and landed.event_id = resent.event_id
    where resent.event_id is null

    union all

    select
        landed.*,
        row_number() over arrivals as arrival_order,
        count(*) over keys as landed_rows,
        nullif(max(landed.row_hash) over keys, min(landed.row_hash) over keys) as other_row_hash
    from landed
    inner join resent on landed.date = resent.date and landed.event_id = resent.event_id
    window
        keys as (partition by landed.date, landed.event_id),
        arrivals as (
            partition by landed.date, landed.event_id
            order by landed.loaded_at, landed.row_hash, landed.ingested_at, landed.source_file
        )

),

lifted as (

    select
        *,
        {{ json_struct('payload_json', [
            'trigger_type', 'entry_price', 'entry_placed_at', 'entry_time', 'strategy_id', 'fee', 'fee_asset',
            'fill_imputed', 'block_reason', 'price_age_ms', 'spread_bps_at_trigger', 'top_depth_quote',
            {'fills': ['price', 'commission', 'commission_asset', 'trade_id']},
        ]) }} as payload
    from numbered
    where arrival_order = 1

)

select
    -- keys
    lifted.date,
    lifted.client_id,
    coalesce(nullif(lifted.execution_token, ''), 'legacy:' || lifted.operation_id) as execution_token,
    lifted.event_id,

    -- order
    lifted.event_seq,
    lifted.stream_seq,
    lifted.occurred_at,
    event_types.event_rank,
    event_types.state_event,

    -- what came
    lifted.event_type,
    lifted.exchange_time,
    lifted.operation_id,
    lifted.symbol,
    coalesce(lifted.trigger_type, (lifted.payload).trigger_type) as trigger_type,
    lifted.trigger_price,
    lifted.stop_price,
    lifted.quantity,
    lifted.side,
    lifted.exchange_order_id,
    lifted.fill_price,
    lifted.slippage_pct,
    lifted.source,
    lifted.retry_count,
    lifted.error_message,

    -- out of the payload
    {{ decimal_text('lifted.payload.entry_price') }} as entry_price,
    {{ time_text('lifted.payload.entry_placed_at') }} as entry_placed_at,
    {{ time_text('lifted.payload.entry_time') }} as entry_time,
    {{ bigint_text('lifted.payload.strategy_id') }} as strategy_id,
    {{ decimal_text('lifted.payload.fee') }} as fee,
    (lifted.payload).fee_asset as fee_asset,
    coalesce({{ boolean_text('lifted.payload.fill_imputed') }}, false) as is_fill_imputed,
    (lifted.payload).block_reason as block_reason,
    {{ bigint_text('lifted.payload.price_age_ms') }} as price_age_ms,
    {{ percent_text('lifted.payload.spread_bps_at_trigger') }} as spread_bps_at_trigger,
    {{ decimal_text('lifted.payload.top_depth_quote') }} as top_depth_quote,
    {{ joined_trade_ids('lifted.payload.fills') }} as trade_ids,
    {{ commissions('lifted.payload.fills', 'lifted.fill_price') }} as commissions,

    -- lineage
    lifted.ingested_at,
    lifted.loaded_at,
    lifted.source_file,
    lifted.environment,
    cast(lifted.landed_rows as integer) as landed_rows,
    left(lifted.row_hash, 16) as row_hash,
    left(lifted.other_row_hash, 16) as other_row_hash,

    -- flags
    lifted.other_row_hash is not null as has_conflict,
    {{ is_provisional_window('events', 'lifted.ingested_at') }} as is_provisional
from lifted
left join event_types on lifted.event_type = event_types.event_type
