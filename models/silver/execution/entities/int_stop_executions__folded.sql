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

homes as (

    select
        tokens.client_id,
        tokens.execution_token,
        tokens.home_date,
        tokens.has_null_seq,
        tokens.is_shared,
        false as is_spread
    from tokens
    left join latest_spread
        on tokens.client_id = latest_spread.client_id and tokens.execution_token = latest_spread.execution_token
    where latest_spread.execution_token is null and {{ is_built_date('tokens.home_date') }}

    union all

    select
        spread.client_id,
        spread.execution_token,
        spread.home_date,
        bool_or(spread.has_null_seq) as has_null_seq,
        bool_or(spread.is_shared) as is_shared,
        true as is_spread
    from spread
    inner join latest_spread
        on
        spread.client_id = latest_spread.client_id and spread.execution_token = latest_spread.execution_token
        and spread.date = latest_spread.date
    where {{ is_built_date('spread.home_date') }}
    group by spread.client_id, spread.execution_token, spread.home_date

),

-- A number is sorted and compared faster than a tenant and 64 letters.
executions as (

    select
        *,
        {{ file_order(['client_id', 'execution_token']) }} as execution_number
    from homes

),

-- Three kinds of executions need care: events that came on two bronze dates, that event_seq does not order, or that
-- report a fill more than once. Only theirs are numbered: sorting all events would cost more than the rest of the fold.
numbers as (

    select
        executions.execution_number,
        events.event_seq,
        count(*) as events,
        count(case when events.state_event = 'EXECUTED' then 1 end) as reports
    from {{ ref('stg_execution__stop_events') }} as events
    inner join executions
        on events.client_id = executions.client_id and events.execution_token = executions.execution_token
    group by executions.execution_number, events.event_seq

),

special as (

    select execution_number
    from numbers
    group by execution_number
    having max(events) > 1 or count(event_seq) < count(*) or sum(reports) > 1

),

special_events as (

    select
        executions.execution_number,
        executions.has_null_seq,
        events.date,
        events.event_id,
        events.event_seq,
        events.occurred_at,
        events.event_rank,
        events.state_event,
        events.exchange_order_id,
        events.trade_ids,
        events.quantity,
        events.fill_price,
        -- the same event on two dates: again the first landing is kept
        row_number() over arrivals as arrival_order,
        coalesce(
            max(events.other_row_hash) over copies,
            nullif(max(events.row_hash) over copies, min(events.row_hash) over copies)
        ) as differing_row_hash
    from {{ ref('stg_execution__stop_events') }} as events
    inner join executions
        on events.client_id = executions.client_id and events.execution_token = executions.execution_token
    left join special on executions.execution_number = special.execution_number
    where executions.is_spread or special.execution_number is not null
    window
        copies as (partition by executions.execution_number, events.event_id),
        arrivals as (
            partition by executions.execution_number, events.event_id
            order by events.loaded_at, events.row_hash, events.ingested_at, events.source_file
        )

),

renumbered as (

    select
        *,
        row_number() over (
            partition by execution_number, arrival_order = 1
            order by
                case when has_null_seq then 0 else event_seq end, occurred_at, event_rank, event_id
        ) as event_order
    from special_events

),

-- A report is told by its order and trades or, where it names no trades, by its order, quantity and price.
verdicts as (

    select
        execution_number,
        date,
        event_id,
        arrival_order,
        event_order,
        differing_row_hash,
        row_number() over (
            partition by
                execution_number, arrival_order = 1, state_event = 'EXECUTED', exchange_order_id, trade_ids,
                case when trade_ids is null then quantity end, case when trade_ids is null then fill_price end
            order by event_order
        ) as repetition
    from renumbered

),

told as (

    select
        events.*,
        executions.execution_number,
        coalesce(verdicts.event_order, events.event_seq) as event_order,
        events.state_event = 'EXECUTED' and coalesce(verdicts.repetition, 1) = 1 as is_report,
        coalesce(verdicts.differing_row_hash, events.other_row_hash) as differing_row_hash
    from {{ ref('stg_execution__stop_events') }} as events
    inner join executions
        on events.client_id = executions.client_id and events.execution_token = executions.execution_token
    left join verdicts
        on
        executions.execution_number = verdicts.execution_number
        and events.event_id = verdicts.event_id and events.date = verdicts.date
    where coalesce(verdicts.arrival_order, 1) = 1

),

-- The first position of each kind of event tells the state before every event: no step needs the one before it.
folded as (

    select
        execution_number,

        -- positions
        count(*) as event_count,
        min(event_order) as first_event,
        min(case when state_event = 'TRIGGERED' then event_order end) as first_trigger,
        min(case when state_event = 'SUBMITTED' then event_order end) as first_submit,
        min(case when state_event = 'BLOCKED' then event_order end) as first_block,
        min(case when state_event = 'EXECUTED' then event_order end) as first_execution,
        min(case when state_event = 'FAILED' then event_order end) as first_failure,
        count(case when state_event is null then 1 end) as unknown_events,
        count(case when state_event != 'FAILED' then 1 end) as events_beside_failures,

        -- of the operation
        min_by(operation_id, event_order) filter (where operation_id is not null) as operation_id,
        min_by(symbol, event_order) filter (where symbol is not null) as symbol,
        min_by(side, event_order) filter (where side is not null) as side,
        min_by(strategy_id, event_order) filter (where strategy_id is not null) as strategy_id,
        min_by(entry_placed_at, event_order) filter (where entry_placed_at is not null) as entry_placed_at,
        min_by(entry_time, event_order) filter (where entry_time is not null) as entry_time,

        -- of the level
        min_by(trigger_type, event_order) filter (where trigger_type is not null) as trigger_type,
        min_by(stop_price, event_order) filter (where stop_price is not null) as stop_price,
        coalesce(min(stop_price) != max(stop_price), false) as has_other_level,
        min_by(trigger_price, event_order) filter (where trigger_price is not null) as any_trigger_price,
        min_by(entry_price, event_order) filter (where entry_price is not null) as any_entry_price,
        min_by(quantity, event_order) filter (where quantity is not null) as any_quantity,

        -- of the first STOP_TRIGGERED
        {{ first_of('trigger_price', 'event_order') }}
        filter (where state_event = 'TRIGGERED') as trigger_event_trigger_price,
        {{ first_of('stop_price', 'event_order') }}
        filter (where state_event = 'TRIGGERED') as trigger_event_stop_price,
        {{ first_of('entry_price', 'event_order') }}
        filter (where state_event = 'TRIGGERED') as trigger_event_entry_price,
        {{ first_of('quantity', 'event_order') }}
        filter (where state_event = 'TRIGGERED') as trigger_event_quantity,
        {{ first_of('side', 'event_order') }}
        filter (where state_event = 'TRIGGERED') as trigger_event_side,
        {{ first_of('trigger_type', 'event_order') }}
        filter (where state_event = 'TRIGGERED') as trigger_event_trigger_type,
        {{ first_of('entry_placed_at', 'event_order') }}
        filter (where state_event = 'TRIGGERED') as trigger_event_entry_placed_at,
        {{ first_of('entry_time', 'event_order') }}
        filter (where state_event = 'TRIGGERED') as trigger_event_entry_time,
        {{ first_of('occurred_at', 'event_order') }}
        filter (where state_event = 'TRIGGERED') as trigger_occurred_at,
        {{ first_of('ingested_at', 'event_order') }}
        filter (where state_event = 'TRIGGERED') as trigger_ingested_at,
        {{ first_of('price_age_ms', 'event_order') }}
        filter (where state_event = 'TRIGGERED') as price_age_ms,
        {{ first_of('spread_bps_at_trigger', 'event_order') }}
        filter (where state_event = 'TRIGGERED') as spread_bps_at_trigger,
        {{ first_of('top_depth_quote', 'event_order') }}
        filter (where state_event = 'TRIGGERED') as top_depth_quote,

        -- of the other states
        min_by(occurred_at, event_order) filter (where state_event = 'SUBMITTED') as submit_occurred_at,
        min_by(occurred_at, event_order) filter (where state_event = 'FAILED') as failure_occurred_at,
        min_by(greatest(occurred_at, coalesce(ingested_at, occurred_at)), event_order)
        filter (where state_event = 'FAILED') as failure_available_at,
        min_by(occurred_at, event_order) filter (where state_event = 'BLOCKED') as block_occurred_at,
        min_by(greatest(occurred_at, coalesce(ingested_at, occurred_at)), event_order)
        filter (where state_event = 'BLOCKED') as block_available_at,
        min_by(case when event_type = 'BLOCKED' then coalesce(block_reason, '') else event_type end, event_order)
        filter (where state_event = 'BLOCKED') as block_reason,
        max_by(error_message, event_order)
        filter (where state_event = 'FAILED' and error_message is not null) as error_message,

        -- of distinct reports
        max(case when is_report then occurred_at end) as executed_at,
        max(case when is_report then greatest(occurred_at, coalesce(ingested_at, occurred_at)) end)
            as execution_available_at,
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
        min_by(source, event_order) as source,
        max_by(source, event_order) filter (where state_event in ('EXECUTED', 'FAILED')) as execution_source,
        max(retry_count) as retry_count,
        min(event_seq) as first_event_seq,
        max(event_seq) as last_event_seq,
        min_by(occurred_at, event_order) as first_event_at,
        max(ingested_at) as last_ingested_at,
        {{ sorted_list('event_id') }} as source_event_ids,
        {{ sorted_list('stream_seq') }} as stream_seqs,
        bool_or(differing_row_hash is not null) as has_conflict,
        bool_or(is_provisional) as is_provisional
    from told
    group by execution_number

),

-- The closed form of the table of transitions. BLOCKED counts while nothing was submitted, and nothing after the first
-- terminal event counts but a fill.
effective as (

    select
        *,
        coalesce(first_trigger = first_event, false) as is_triggered,
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

),

states as (

    select
        *,
        case
            when
                first_submit is not null
                and coalesce(first_submit < first_execution, true)
                and coalesce(first_submit < effective_failure, true)
                and coalesce(first_submit < effective_block, true)
                then first_submit
        end as effective_submit,
        case
            when unknown_events > 0 then null
            when first_execution is not null then 'EXECUTED'
            when effective_failure is not null then 'FAILED'
            when effective_block is not null then 'BLOCKED'
            when first_submit is not null then 'SUBMITTED'
            else 'PENDING'
        end as status,
        -- TRIGGERED, SUBMITTED and an end, each once and in this order, or a lone refusal: nothing to remark
        not has_conflict and not has_other_level and (
            event_count = 1 and coalesce(first_trigger, first_block) is not null
            or event_count = 2 and first_trigger < coalesce(first_submit, first_failure, first_block)
            or event_count = 3 and first_trigger < first_submit
            and first_submit < coalesce(first_execution, first_failure)
        ) as is_plain
    from resolved

),

-- Only what is not plain is looked at event by event.
remarkable as (

    select
        states.execution_number,
        events.event_id,
        events.state_event,
        events.event_type,
        events.stop_price,
        events.row_hash,
        coalesce(verdicts.differing_row_hash, events.other_row_hash) as differing_row_hash,
        coalesce(verdicts.repetition, 1) = 1 as is_report,
        states.stop_price as first_stop_price,
        case
            when states.first_execution < coalesce(verdicts.event_order, events.event_seq) then 'EXECUTED'
            when states.effective_failure < coalesce(verdicts.event_order, events.event_seq) then 'FAILED'
            when states.effective_block < coalesce(verdicts.event_order, events.event_seq) then 'BLOCKED'
            when states.first_submit < coalesce(verdicts.event_order, events.event_seq) then 'SUBMITTED'
            when states.first_event < coalesce(verdicts.event_order, events.event_seq) then 'PENDING'
            else 'none'
        end as state_before
    from {{ ref('stg_execution__stop_events') }} as events
    inner join executions
        on events.client_id = executions.client_id and events.execution_token = executions.execution_token
    inner join states on executions.execution_number = states.execution_number
    left join verdicts
        on
        executions.execution_number = verdicts.execution_number
        and events.event_id = verdicts.event_id and events.date = verdicts.date
    where not coalesce(states.is_plain, false) and coalesce(verdicts.arrival_order, 1) = 1

),

remarks as (

    select
        execution_number,
        event_id,
        case
            when state_event = 'TRIGGERED'
                then
                    case state_before
                        when 'none' then null
                        when 'PENDING' then 'DUPLICATE_EVENT'
                        when 'SUBMITTED' then 'OUT_OF_ORDER'
                        else 'EVENT_AFTER_TERMINAL'
                    end
            when state_event = 'SUBMITTED'
                then
                    case state_before
                        when 'none' then 'MISSING_TRIGGER'
                        when 'PENDING' then null
                        when 'SUBMITTED' then 'DUPLICATE_EVENT'
                        else 'EVENT_AFTER_TERMINAL'
                    end
            when state_event = 'EXECUTED'
                then
                    case state_before
                        when 'none' then 'MISSING_TRIGGER'
                        when 'PENDING' then 'MISSING_SUBMIT'
                        when 'SUBMITTED' then null
                        when 'EXECUTED' then case when not is_report then 'DUPLICATE_EVENT' end
                        when 'FAILED' then 'LATE_FILL_AFTER_FAILURE'
                        when 'BLOCKED' then 'LATE_FILL_AFTER_BLOCK'
                    end
            when state_event = 'FAILED'
                then
                    case state_before
                        when 'none' then 'MISSING_TRIGGER'
                        when 'EXECUTED' then 'CONFLICTING_TERMINAL'
                        when 'FAILED' then 'DUPLICATE_EVENT'
                        when 'BLOCKED' then 'EVENT_AFTER_TERMINAL'
                    end
            when state_event = 'BLOCKED' then
                case state_before
                    when 'SUBMITTED' then 'BLOCK_AFTER_SUBMIT'
                    when 'EXECUTED'
                        then case event_type
                                when 'SLIPPAGE_BREACH' then 'POST_TRADE_SLIPPAGE_BREACH'
                                else 'BLOCK_AFTER_EXECUTED'
                            end
                    when 'FAILED' then 'EVENT_AFTER_TERMINAL'
                    when 'BLOCKED' then 'DUPLICATE_EVENT'
                end
        end as code,
        event_type || ' in state ' || state_before as detail
    from remarkable

    union all

    select
        execution_number,
        event_id,
        'LEVEL_CHANGED' as code,
        'stop_price was ' || first_stop_price || ' first, here ' || stop_price as detail
    from remarkable
    where stop_price != first_stop_price

    union all

    select
        execution_number,
        event_id,
        'KEY_HASH_CONFLICT' as code,
        'kept row_hash ' || row_hash || ', not ' || differing_row_hash as detail
    from remarkable
    where differing_row_hash is not null

),

-- Two of the table's remarks are flags of the execution, the others anomalies of an event.
remarked as (

    select
        execution_number,
        {{ anomaly_list(
            "case when code not in ('POST_TRADE_SLIPPAGE_BREACH', 'BLOCK_AFTER_EXECUTED') then code end",
            'event_id', 'detail'
        ) }} as event_anomalies,
        bool_or(code = 'POST_TRADE_SLIPPAGE_BREACH') as has_post_trade_breach,
        bool_or(code = 'BLOCK_AFTER_EXECUTED') as has_block_after_executed
    from remarks
    where code is not null
    group by execution_number

),

valued as (

    select
        executions.home_date as date,
        executions.client_id,
        executions.execution_token,
        executions.has_null_seq,
        executions.is_shared,
        states.*,
        case when states.is_triggered then states.trigger_occurred_at end as triggered_at,
        case when states.effective_submit is not null then states.submit_occurred_at end as submitted_at,
        remarked.event_anomalies,
        coalesce(remarked.has_post_trade_breach, false) as has_post_trade_breach,
        coalesce(remarked.has_block_after_executed, false) as has_block_after_executed,
        coalesce(states.trigger_event_trigger_price, states.any_trigger_price) as trigger_price,
        coalesce(states.trigger_event_entry_price, states.any_entry_price) as entry_price,
        coalesce(states.trigger_event_quantity, states.any_quantity) as quantity,
        -- the only division, in DOUBLE
        {{ money('states.filled_notional / nullif(states.filled_quantity, 0)') }} as fill_price
    from executions
    inner join states on executions.execution_number = states.execution_number
    left join remarked on executions.execution_number = remarked.execution_number

),

measured as (

    select
        *,
        case when not is_fill_imputed then fill_price end as real_fill_price,
        {{ percent_points(adverse_percent('side', 'stop_price', 'trigger_price')) }} as detection_gap_pct,
        {{ percent_points(adverse_percent('side', 'stop_price', 'fill_price')) }} as signed_slippage_pct,
        {{ percent_points(adverse_percent('side', 'trigger_price', 'fill_price')) }} as signed_slippage_vs_trigger_pct,
        coalesce(trigger_type, 'STOP_LOSS') as known_trigger_type
    from valued

),

priced as (

    select
        *,
        case when not is_fill_imputed then signed_slippage_pct end as slippage_pct,
        case when not is_fill_imputed then signed_slippage_vs_trigger_pct end as slippage_vs_trigger_pct,
        {{ money(
            "case side when 'SELL' then 1 when 'BUY' then -1 end * "
            ~ '(' ~ exact_product('(real_fill_price - entry_price)', 'executed_quantity') ~ ')'
        ) }} as gross_pnl,
        (case side when 'SELL' then 1 when 'BUY' then -1 end)
        * (case known_trigger_type when 'STOP_LOSS' then 1 when 'TAKE_PROFIT' then -1 end)
        * (stop_price - entry_price) >= 0 as is_wrong_side,
        -- requested × (1 + 1e-8), exactly
        (executed_quantity - quantity) * 100000000 > quantity as is_overfilled
    from measured

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
    strategy_id as payload_strategy_id,

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
    case when effective_failure is not null then failure_occurred_at end as failed_at,
    case when effective_block is not null then block_occurred_at end as blocked_at,
    case when effective_block is not null then nullif(block_reason, '') end as block_reason,
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
    case
        when is_triggered
            then greatest(trigger_occurred_at, coalesce(trigger_ingested_at, trigger_occurred_at))
    end as trigger_available_at,
    case
        when first_execution is not null then execution_available_at
        when effective_failure is not null then failure_available_at
        when effective_block is not null then block_available_at
    end as terminal_available_at,
    price_age_ms,
    spread_bps_at_trigger,
    top_depth_quote,

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
    is_provisional,

    -- judgement
    event_anomalies,
    coalesce(events_beside_failures = 0, false) as is_lone_failure,
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
