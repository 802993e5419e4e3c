with

met_again as (

    select distinct
        client_id,
        execution_token
    from {{ ref('int_stop_events__spread') }}

),

-- Most executions are as they should be: trigger, submission and an end, each once and in order, or a lone refusal, all
-- on the date they stand on.
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

events as (

    select
        *,
        greatest(occurred_at, coalesce(ingested_at, occurred_at)) as available_at,
        state_event in ('EXECUTED', 'FAILED', 'BLOCKED') as is_end,
        state_event = 'EXECUTED' as is_report
    from {{ ref('stg_execution__stop_events') }}
    where {{ is_built_date('date') }}

),

-- As each state is met once at most, its columns are those of its event. Right for plain executions alone.
by_token as (

    select
        date,
        client_id,
        execution_token,

        -- the first that is known
        {% for name in [
            'operation_id', 'symbol', 'side', 'trigger_type', 'stop_price', 'trigger_price', 'entry_price',
            'entry_placed_at', 'entry_time', 'quantity', 'source'
        ] %}
            {{ first_known(name, 'event_seq') }} as {{ name }},
        {%- endfor %}
        {{ first_known('strategy_id', 'event_seq') }} as payload_strategy_id,

        -- what became of it
        max(case when is_end then state_event end) as end_state,
        max(case when state_event = 'TRIGGERED' then occurred_at end) as triggered_at,
        max(case when state_event = 'SUBMITTED' then occurred_at end) as submitted_at,
        max(case when is_report then occurred_at end) as executed_at,
        max(case when state_event = 'FAILED' then occurred_at end) as failed_at,
        max(case when state_event = 'BLOCKED' then occurred_at end) as blocked_at,
        max(
            case
                when event_type = 'BLOCKED' then nullif(block_reason, '')
                when state_event = 'BLOCKED' then event_type
            end
        ) as block_reason,
        max(case when is_report then exchange_order_id end) as exchange_order_id,
        max(case when is_report then quantity end) as report_quantity,
        max(case when is_report then fill_price end) as report_price,
        bool_or(is_report and is_fill_imputed) as is_fill_imputed,
        max(case when state_event = 'FAILED' then error_message end) as error_message,
        max(case when is_report then slippage_pct end) as reported_slippage_pct,
        {{ together(
            'case when is_report then '
            ~ paid_fees('commissions', 'fee_asset', 'fee', 'fill_price', 'coalesce(exchange_time, occurred_at)') ~ ' end'
        ) }} as exit_fees,

        -- of STOP_TRIGGERED
        {% for name in [
            'stop_price', 'entry_price', 'trigger_price', 'quantity', 'side', 'trigger_type', 'entry_placed_at', 'entry_time'
        ] %}
            max(case when state_event = 'TRIGGERED' then {{ name }} end) as trigger_event_{{ name }},
        {%- endfor %}
        {% for name in ['price_age_ms', 'spread_bps_at_trigger', 'top_depth_quote'] %}
            max(case when state_event = 'TRIGGERED' then {{ name }} end) as {{ name }},
        {%- endfor %}
        max(case when state_event = 'TRIGGERED' then available_at end) as trigger_available_at,
        max(case when is_end then available_at end) as terminal_available_at,

        -- lineage
        max(case when state_event in ('EXECUTED', 'FAILED') then source end) as execution_source,
        max(retry_count) as retry_count,
        cast(count(*) as integer) as event_count,
        min(event_seq) as first_event_seq,
        max(event_seq) as last_event_seq,
        {{ first_known('occurred_at', 'event_seq') }} as first_event_at,
        max(ingested_at) as last_ingested_at,
        {{ sorted_list('event_id') }} as source_event_ids,
        {{ sorted_list('stream_seq') }} as stream_seqs,
        bool_or(is_provisional) as is_provisional
    from events
    group by date, client_id, execution_token

),

plain as (

    select
        by_token.*,
        plain_tokens.is_shared,
        coalesce(
            by_token.end_state, case when by_token.submitted_at is not null then 'SUBMITTED' else 'PENDING' end
        ) as status,
        {{ money('by_token.report_quantity') }} as executed_quantity,
        {{ exact_product('by_token.report_price', 'by_token.report_quantity') }} as filled_notional,
        cast(case when by_token.report_price is not null then by_token.report_quantity end as decimal(38, 8))
            as filled_quantity,
        false as has_null_seq,
        false as is_lone_failure,
        false as has_post_trade_breach,
        false as has_block_after_executed
    from by_token
    inner join plain_tokens
        on
        by_token.date = plain_tokens.date and by_token.client_id = plain_tokens.client_id
        and by_token.execution_token = plain_tokens.execution_token

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
