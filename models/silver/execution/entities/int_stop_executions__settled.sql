with

attempts as (

    select * from {{ ref('int_stop_executions__attempts') }}

),

attempts_spread as (

    select * from {{ ref('int_stop_executions__attempts_spread') }}

),

foreign_fees as (

    select * from {{ ref('int_stop_executions__foreign_fees') }}

),

origins as (

    select * from {{ ref('int_stop_executions__origins') }}

),

symbols as (

    select * from {{ ref('symbols') }}

),

bars as (

    select
        symbol as price_symbol,
        bar_end,
        close
    from {{ ref('market_bars_1m') }}

),

-- The attempts of an operation: those of its last spread over several dates, else those of its only date.
latest_spread as (

    select
        client_id,
        operation_id,
        max(date) as date
    from attempts_spread
    group by client_id, operation_id

),

all_attempts as (

    select
        attempts.client_id,
        attempts.operation_id,
        attempts.last_attempt_at,
        attempts.last_attempt_token,
        attempts.stream_seqs
    from attempts
    left join latest_spread
        on attempts.client_id = latest_spread.client_id and attempts.operation_id = latest_spread.operation_id
    where latest_spread.operation_id is null

    union all

    select
        attempts_spread.client_id,
        attempts_spread.operation_id,
        attempts_spread.last_attempt_at,
        attempts_spread.last_attempt_token,
        attempts_spread.stream_seqs
    from attempts_spread
    inner join latest_spread
        on
        attempts_spread.client_id = latest_spread.client_id
        and attempts_spread.operation_id = latest_spread.operation_id
        and attempts_spread.date = latest_spread.date

),

operations as (

    select
        client_id,
        operation_id,
        max(
            case
                when last_attempt_token is not null
                    then {{ struct_of({'at': 'last_attempt_at', 'execution_token': 'last_attempt_token'}) }}
            end
        ) as latest,
        {{ together('stream_seqs') }} as stream_seqs
    from all_attempts
    group by client_id, operation_id

),

-- Numbers of an operation start at 1 and have no hole: few have one, only those are looked at number by number.
with_holes as (

    select * from operations
    where not {{ is_gap_free('stream_seqs') }}

),

numbered as (

    select
        folded.date,
        folded.client_id,
        folded.execution_token,
        folded.stream_seqs,
        with_holes.stream_seqs as operation_seqs
    from {{ ref('int_stop_executions__folded') }} as folded
    inner join with_holes
        on folded.client_id = with_holes.client_id and folded.operation_id = with_holes.operation_id

),

holes as (

    select
        date,
        client_id,
        execution_token,
        min(stream_seq) as seq_after_gap
    from {{ each_of('numbered', 'stream_seqs', 'stream_seq') }}
    where stream_seq > 1 and not array_contains(operation_seqs, stream_seq - 1)
    group by date, client_id, execution_token

),

-- Fees in the quote asset, in the base asset at the fill's price, in another one at its last closed bar.
paid as (

    select
        date,
        client_id,
        execution_token,
        symbol,
        (exit_fee).asset as fee_asset,
        (exit_fee).amount as fee,
        (exit_fee).price as fill_price
    from {{ each_of(ref('int_stop_executions__folded'), 'exit_fees', 'exit_fee') }}

),

own_fees as (

    select
        paid.date,
        paid.client_id,
        paid.execution_token,
        sum(
            case
                when paid.fee_asset is null or paid.fee_asset = symbols.quote_asset
                    then cast(paid.fee as decimal(38, 16))
                when paid.fee_asset = symbols.base_asset then {{ exact_product('paid.fee', 'paid.fill_price') }}
            end
        ) as fee_quote,
        count(
            case
                when
                    symbols.symbol is null and paid.fee_asset is not null
                    or paid.fee_asset = symbols.base_asset and paid.fill_price is null
                    then 1
            end
        ) as unpriced_fees
    from paid
    left join symbols on paid.symbol = symbols.symbol
    group by paid.date, paid.client_id, paid.execution_token

),

converted as (

    select
        foreign_fees.date,
        foreign_fees.client_id,
        foreign_fees.execution_token,
        foreign_fees.fee,
        case
            when bars.bar_end >= foreign_fees.paid_at - interval '60 minutes' then bars.close
        end as rate
    {{ asof_left('foreign_fees', 'bars', on=['price_symbol'], left_time='paid_at', right_time='bar_end') }}

),

converted_fees as (

    select
        date,
        client_id,
        execution_token,
        sum({{ exact_product('fee', 'rate') }}) as fee_quote,
        count(case when rate is null then 1 end) as unpriced_fees
    from converted
    group by date, client_id, execution_token

),

fees as (

    select
        own_fees.date,
        own_fees.client_id,
        own_fees.execution_token,
        coalesce(own_fees.fee_quote, 0) + coalesce(converted_fees.fee_quote, 0) as fee_quote,
        own_fees.unpriced_fees + coalesce(converted_fees.unpriced_fees, 0) as unpriced_fees
    from own_fees
    left join converted_fees
        on
        own_fees.date = converted_fees.date and own_fees.client_id = converted_fees.client_id
        and own_fees.execution_token = converted_fees.execution_token

)

select
    -- keys
    folded.date,
    folded.client_id,
    folded.execution_token,

    -- of the operation
    coalesce(origins.strategy_id, folded.payload_strategy_id, 0) as strategy_id,
    coalesce(folded.entry_placed_at, origins.first_order_at) as entry_placed_at,
    coalesce(
        folded.entry_time,
        case folded.side when 'SELL' then origins.first_bought_at when 'BUY' then origins.first_sold_at end
    ) as entry_time,

    -- measures
    case
        when fees.unpriced_fees = 0
            then {{ rounded_money('fees.fee_quote', 'cast(fees.fee_quote as double)') }}
    end as fee_quote,

    -- flags
    coalesce(fees.unpriced_fees > 0, false) as is_fee_unpriced,
    case
        when {{ is_empty_list('folded.failed_rules') }}
            then folded.execution_token = (operations.latest).execution_token
    end as is_current,
    holes.seq_after_gap,
    not coalesce(origins.is_known, false) as is_operation_unknown,
    case
        when
            folded.status != 'EXECUTED'
            and case folded.side
                when 'SELL' then origins.last_unreported_sale_at when 'BUY' then origins.last_unreported_buy_at
            end > folded.triggered_at
            then
                case folded.side
                    when 'SELL' then origins.last_unreported_sale_at when 'BUY' then origins.last_unreported_buy_at
                end
    end as unreported_fill_at
from {{ ref('int_stop_executions__folded') }} as folded
left join origins
    on folded.client_id = origins.client_id and folded.operation_id = origins.operation_id
left join operations
    on folded.client_id = operations.client_id and folded.operation_id = operations.operation_id
left join holes
    on
    folded.date = holes.date and folded.client_id = holes.client_id
    and folded.execution_token = holes.execution_token
left join fees
    on
    folded.date = fees.date and folded.client_id = fees.client_id
    and folded.execution_token = fees.execution_token
