with

met_again as (

    select distinct
        client_id,
        execution_token
    from {{ ref('int_stop_events__spread') }}

),

-- Most executions are as they should be: trigger, submission and an end, each once and in order, or a lone refusal, all
-- on the date they stand on. Their columns are those of their three events.
plain_tokens as (

    select
        tokens.date,
        tokens.client_id,
        tokens.execution_token,
        tokens.is_shared
    from {{ ref('int_stop_events__tokens') }} as tokens
    left join met_again
        on tokens.client_id = met_again.client_id and tokens.execution_token = met_again.execution_token
    where
        met_again.execution_token is null
        and tokens.is_plain
        and tokens.date = tokens.home_date
        and {{ is_built_date('tokens.date') }}

),

triggers as (

    select * from {{ ref('stg_execution__stop_events') }}
    where state_event = 'TRIGGERED' and {{ is_built_date('date') }}

),

submissions as (

    select * from {{ ref('stg_execution__stop_events') }}
    where state_event = 'SUBMITTED' and {{ is_built_date('date') }}

),

ends as (

    select
        *,
        state_event = 'EXECUTED' as is_report,
        greatest(occurred_at, coalesce(ingested_at, occurred_at)) as available_at
    from {{ ref('stg_execution__stop_events') }}
    where state_event in ('EXECUTED', 'FAILED', 'BLOCKED') and {{ is_built_date('date') }}

),

plain as (

    select
        tokens.date,
        tokens.client_id,
        tokens.execution_token,

        -- the first that is known
        {% for name in [
            'operation_id', 'symbol', 'side', 'trigger_type', 'stop_price', 'trigger_price', 'entry_price',
            'entry_placed_at', 'entry_time', 'quantity', 'source'
        ] %}
            coalesce(triggers.{{ name }}, submissions.{{ name }}, ends.{{ name }}) as {{ name }},
        {%- endfor %}
        coalesce(triggers.strategy_id, submissions.strategy_id, ends.strategy_id) as payload_strategy_id,

        -- what became of it
        case
            when ends.state_event is not null then ends.state_event
            when submissions.event_id is not null then 'SUBMITTED'
            else 'PENDING'
        end as status,
        triggers.occurred_at as triggered_at,
        submissions.occurred_at as submitted_at,
        case when ends.is_report then ends.occurred_at end as executed_at,
        case when ends.state_event = 'FAILED' then ends.occurred_at end as failed_at,
        case when ends.state_event = 'BLOCKED' then ends.occurred_at end as blocked_at,
        case
            when ends.event_type = 'BLOCKED' then nullif(ends.block_reason, '')
            when ends.state_event = 'BLOCKED' then ends.event_type
        end as block_reason,
        case when ends.is_report then ends.exchange_order_id end as exchange_order_id,
        case when ends.is_report then {{ money('ends.quantity') }} end as executed_quantity,
        case when ends.is_report then {{ exact_product('ends.fill_price', 'ends.quantity') }} end as filled_notional,
        cast(
            case when ends.is_report and ends.fill_price is not null then ends.quantity end as decimal(38, 8)
        ) as filled_quantity,
        coalesce(ends.is_report and ends.is_fill_imputed, false) as is_fill_imputed,
        case when ends.state_event = 'FAILED' then ends.error_message end as error_message,
        case when ends.is_report then ends.slippage_pct end as reported_slippage_pct,
        case
            when ends.is_report
                then {{ sorted_or_null(paid_fees(
                    'ends.commissions', 'ends.fee_asset', 'ends.fee', 'ends.fill_price',
                    'coalesce(ends.exchange_time, ends.occurred_at)'
                )) }}
        end as exit_fees,

        -- of STOP_TRIGGERED
        {% for name in [
            'stop_price', 'entry_price', 'trigger_price', 'quantity', 'side', 'trigger_type', 'entry_placed_at', 'entry_time'
        ] %}
            triggers.{{ name }} as trigger_event_{{ name }},
        {%- endfor %}
        greatest(triggers.occurred_at, coalesce(triggers.ingested_at, triggers.occurred_at)) as trigger_available_at,
        ends.available_at as terminal_available_at,
        triggers.price_age_ms,
        triggers.spread_bps_at_trigger,
        triggers.top_depth_quote,

        -- lineage
        case when ends.state_event in ('EXECUTED', 'FAILED') then ends.source end as execution_source,
        greatest(triggers.retry_count, submissions.retry_count, ends.retry_count) as retry_count,
        cast(
            case when triggers.event_id is null then 0 else 1 end
            + case when submissions.event_id is null then 0 else 1 end
            + case when ends.event_id is null then 0 else 1 end as integer
        ) as event_count,
        coalesce(triggers.event_seq, ends.event_seq) as first_event_seq,
        coalesce(ends.event_seq, submissions.event_seq, triggers.event_seq) as last_event_seq,
        coalesce(triggers.occurred_at, ends.occurred_at) as first_event_at,
        greatest(triggers.ingested_at, submissions.ingested_at, ends.ingested_at) as last_ingested_at,
        {{ sorted_present(['triggers.event_id', 'submissions.event_id', 'ends.event_id']) }} as source_event_ids,
        {{ sorted_present(['triggers.stream_seq', 'submissions.stream_seq', 'ends.stream_seq']) }} as stream_seqs,

        -- flags
        coalesce(triggers.is_provisional, false) or coalesce(submissions.is_provisional, false)
        or coalesce(ends.is_provisional, false) as is_provisional,
        false as has_null_seq,
        tokens.is_shared,
        false as is_lone_failure,
        false as has_post_trade_breach,
        false as has_block_after_executed
    from plain_tokens as tokens
    left join triggers
        on
        tokens.date = triggers.date and tokens.client_id = triggers.client_id
        and tokens.execution_token = triggers.execution_token
    left join submissions
        on
        tokens.date = submissions.date and tokens.client_id = submissions.client_id
        and tokens.execution_token = submissions.execution_token
    left join ends
        on
        tokens.date = ends.date and tokens.client_id = ends.client_id
        and tokens.execution_token = ends.execution_token

),

{%- set columns = [
    'date', 'client_id', 'execution_token', 'operation_id', 'symbol', 'side', 'payload_strategy_id', 'trigger_type',
    'stop_price', 'trigger_price', 'entry_price', 'entry_placed_at', 'entry_time', 'quantity', 'status', 'triggered_at',
    'submitted_at', 'executed_at', 'failed_at', 'blocked_at', 'block_reason', 'exchange_order_id', 'executed_quantity',
    'filled_notional', 'filled_quantity', 'is_fill_imputed', 'error_message', 'reported_slippage_pct', 'exit_fees',
    'trigger_event_stop_price', 'trigger_event_entry_price', 'trigger_event_trigger_price', 'trigger_event_quantity',
    'trigger_event_side', 'trigger_event_trigger_type', 'trigger_event_entry_placed_at', 'trigger_event_entry_time',
    'trigger_available_at', 'terminal_available_at', 'price_age_ms', 'spread_bps_at_trigger', 'top_depth_quote',
    'source', 'execution_source', 'retry_count', 'event_count', 'first_event_seq', 'last_event_seq', 'first_event_at',
    'last_ingested_at', 'source_event_ids', 'stream_seqs', 'is_provisional', 'has_null_seq', 'is_shared',
    'is_lone_failure', 'has_post_trade_breach', 'has_block_after_executed',
] %}

executions as (

    select {{ columns | join(', ') }} from plain

    union all

    select {{ columns | join(', ') }} from {{ ref('int_stop_executions__contested') }}

),

-- In steps, as an expression within a CASE is computed once for each time that it stands there.
filled as (

    select
        *,
        -- the only division, in DOUBLE
        filled_notional / nullif(filled_quantity, 0) as mean_fill,
        case side when 'SELL' then 1 when 'BUY' then -1 end as direction,
        coalesce(trigger_type, 'STOP_LOSS') as known_trigger_type
    from executions

),

valued as (

    select
        *,
        {{ money('mean_fill') }} as fill_price
    from filled

),

measured as (

    select
        *,
        {{ adverse_percent('side', 'stop_price', 'trigger_price') }} as exact_gap,
        case when not is_fill_imputed then {{ adverse_percent('side', 'stop_price', 'fill_price') }} end
            as exact_slippage,
        case when not is_fill_imputed then {{ adverse_percent('side', 'trigger_price', 'fill_price') }} end
            as exact_cost,
        case when not is_fill_imputed then fill_price - entry_price end as gain
    from valued

),

multiplied as (

    select
        *,
        direction * ({{ exact_product('gain', 'executed_quantity') }}) as exact_pnl,
        direction * cast(gain as double) * cast(executed_quantity as double) as near_pnl
    from measured

),

priced as (

    select
        *,
        {{ percent_points('exact_gap') }} as detection_gap_pct,
        {{ percent_points('exact_slippage') }} as slippage_pct,
        {{ percent_points('exact_cost') }} as slippage_vs_trigger_pct,
        {{ rounded_money('exact_pnl', 'near_pnl') }} as gross_pnl,
        direction * (case known_trigger_type when 'STOP_LOSS' then 1 when 'TAKE_PROFIT' then -1 end)
        * (stop_price - entry_price) >= 0 as is_wrong_side,
        -- requested × (1 + 1e-8), exactly
        (executed_quantity - quantity) * 100000000 > quantity as is_overfilled
    from multiplied

)

select
    -- keys
    date,
    client_id,
    execution_token,
    {{ uuid5("'execution|' || client_id || '|' || execution_token") }} as execution_id,

    -- of the operation
    {{ checked('operation_id', 'operation_id is not null',
        "'NULL_CRITICAL: no event of execution ' || execution_token || ' of client ' || client_id"
        ~ " || ' has an operation_id; expected one'") }} as operation_id,
    symbol,
    side,
    payload_strategy_id,

    -- of the level
    known_trigger_type as trigger_type,
    stop_price,
    trigger_price,
    entry_price,
    entry_placed_at,
    entry_time,
    quantity,

    -- what became of it
    {{ checked('status', 'status is not null',
        "'BAD_STATUS: an event of execution ' || execution_token || ' of client ' || client_id"
        ~ " || ' has a type that the seed event_types lacks; expected one of its types'") }} as status,
    triggered_at,
    submitted_at,
    executed_at,
    failed_at,
    blocked_at,
    block_reason,
    exchange_order_id,
    executed_quantity,
    fill_price,
    is_fill_imputed,
    error_message,

    -- what it cost
    slippage_pct,
    slippage_vs_trigger_pct,
    detection_gap_pct,
    abs(slippage_pct) as abs_slippage_pct,
    reported_slippage_pct,
    gross_pnl,
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
    trigger_available_at,
    terminal_available_at,
    price_age_ms,
    spread_bps_at_trigger,
    top_depth_quote,

    -- lineage
    source,
    execution_source,
    retry_count,
    event_count,
    first_event_seq,
    last_event_seq,
    first_event_at,
    last_ingested_at,
    source_event_ids,
    stream_seqs,
    is_provisional,

    -- judgement
    is_lone_failure,
    has_null_seq,
    {{ flag_list({
        'BLOCK_AFTER_EXECUTED': 'has_block_after_executed',
        'FILL_IMPUTED': 'is_fill_imputed',
        'OVERFILL': 'is_overfilled',
        'POST_TRADE_SLIPPAGE_BREACH': 'has_post_trade_breach',
        'TRIGGER_TYPE_DEFAULTED': 'trigger_type is null',
        'WRONG_SIDE_STOP': 'is_wrong_side',
    }) }} as quality_flags,
    {{ flag_list({
        'EXECUTED_NO_FILL': "status = 'EXECUTED' and fill_price is null",
        'NONPOSITIVE': 'least(stop_price, trigger_price, entry_price, quantity, executed_quantity, fill_price) <= 0',
        'REQUIRED_NULL':
            'client_id is null or symbol is null or stop_price is null or quantity is null or side is null',
        'SLIPPAGE_RANGE': 'slippage_pct not between -50 and 50',
        'TENANT_MISMATCH': 'is_shared',
        'TIME_ORDER': 'submitted_at < triggered_at or executed_at < submitted_at or executed_at < triggered_at',
    }) }} as failed_rules
from priced
