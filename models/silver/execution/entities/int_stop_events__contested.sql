with

tokens as (

    select * from {{ ref('int_stop_events__tokens') }}

),

spread as (

    select * from {{ ref('int_stop_events__spread') }}

),

-- Where an execution stands: by its last spread over several bronze dates, else by its only date.
latest_spread as (

    select
        client_id,
        execution_token,
        max(date) as date
    from spread
    group by client_id, execution_token

),

-- All that are not plain: int_stop_executions__folded reads those from staging as they are.
executions as (

    select
        tokens.client_id,
        tokens.execution_token,
        tokens.home_date,
        tokens.has_null_seq,
        tokens.is_shared
    from tokens
    left join latest_spread
        on tokens.client_id = latest_spread.client_id and tokens.execution_token = latest_spread.execution_token
    where
        latest_spread.execution_token is null
        and not (tokens.is_plain and tokens.date = tokens.home_date)
        and {{ is_built_date('tokens.home_date') }}

    union all

    select
        spread.client_id,
        spread.execution_token,
        spread.home_date,
        bool_or(spread.has_null_seq) as has_null_seq,
        bool_or(spread.is_shared) as is_shared
    from spread
    inner join latest_spread
        on
        spread.client_id = latest_spread.client_id and spread.execution_token = latest_spread.execution_token
        and spread.date = latest_spread.date
    where {{ is_built_date('spread.home_date') }}
    group by spread.client_id, spread.execution_token, spread.home_date

),

landed as (

    select
        events.*,
        executions.home_date,
        executions.has_null_seq,
        executions.is_shared,
        -- the same event on two dates: again the first landing is kept
        row_number() over arrivals as arrival_order,
        coalesce(
            max(events.other_row_hash) over copies,
            nullif(max(events.row_hash) over copies, min(events.row_hash) over copies)
        ) as differing_row_hash
    from {{ ref('stg_execution__stop_events') }} as events
    inner join executions
        on events.client_id = executions.client_id and events.execution_token = executions.execution_token
    window
        copies as (partition by events.client_id, events.execution_token, events.event_id),
        arrivals as (
            partition by events.client_id, events.execution_token, events.event_id
            order by events.loaded_at, events.row_hash, events.ingested_at, events.source_file
        )

),

ordered as (

    select
        *,
        row_number() over (
            partition by client_id, execution_token
            order by
                case when has_null_seq then 0 else event_seq end, occurred_at, event_rank, event_id
        ) as event_order
    from landed
    where arrival_order = 1

),

-- A report is told by its order and trades or, where it names no trades, by its order, quantity and price.
told as (

    select
        *,
        row_number() over (
            partition by
                client_id, execution_token, state_event = 'EXECUTED', exchange_order_id, trade_ids,
                case when trade_ids is null then quantity end, case when trade_ids is null then fill_price end
            order by event_order
        ) as repetition
    from ordered

)

select
    -- keys
    home_date as date,
    client_id,
    execution_token,
    event_order,
    event_id,

    -- what came
    event_seq,
    stream_seq,
    occurred_at,
    state_event,
    event_type,
    exchange_time,
    operation_id,
    symbol,
    trigger_type,
    trigger_price,
    stop_price,
    quantity,
    side,
    exchange_order_id,
    fill_price,
    slippage_pct,
    source,
    retry_count,
    error_message,
    entry_price,
    entry_placed_at,
    entry_time,
    strategy_id,
    fee,
    fee_asset,
    is_fill_imputed,
    block_reason,
    price_age_ms,
    spread_bps_at_trigger,
    top_depth_quote,
    commissions,
    ingested_at,
    greatest(occurred_at, coalesce(ingested_at, occurred_at)) as available_at,
    row_hash,
    differing_row_hash,

    -- flags
    coalesce(state_event = 'EXECUTED' and repetition = 1, false) as is_report,
    has_null_seq,
    is_shared,
    is_provisional
from told
