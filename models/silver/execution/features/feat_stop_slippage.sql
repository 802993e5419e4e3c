with

triggers as (

    select
        *,
        {{ minute_number('event_time') }} as event_minute,
        case side when 'SELL' then 1 when 'BUY' then -1 end as closing_sign
    from {{ ref('stop_triggers') }}

),

bar_moves as (

    select * from {{ ref('int_stop_triggers__moves') }}

),

tape as (

    select * from {{ ref('int_stop_triggers__tape') }}

)

select
    -- keys
    triggers.date,
    triggers.client_id,
    triggers.execution_token,

    -- the order
    triggers.side,
    triggers.trigger_type,
    triggers.source,
    cast(triggers.trigger_price * triggers.quantity as decimal(28, 8)) as order_notional_quote,
    case
        when bar_moves.bar_count_24h >= 1368
            then cast(triggers.quantity as double) / nullif(bar_moves.median_volume_1m, 0)
    end as order_qty_to_median_1m_volume,

    -- how the trigger found the market
    {{ percent_points(adverse_percent('triggers.side', 'triggers.stop_price', 'triggers.trigger_price')) }}
        as detection_gap_pct,
    triggers.price_age_ms,
    triggers.spread_bps_at_trigger,
    cast(triggers.top_depth_quote as decimal(28, 8)) as top_depth_quote,

    -- the tape and the bars before t
    tape.signed_imbalance_1m,
    tape.signed_imbalance_5m,
    tape.rv_1m,
    bar_moves.rv_5m,
    bar_moves.rv_1h,
    triggers.closing_sign * bar_moves.last_minute_return as last_minute_return_closing
from triggers
left join bar_moves
    on triggers.symbol = bar_moves.symbol
    and triggers.event_minute = {{ minute_number('bar_moves.minute') }}
left join tape
    on triggers.client_id = tape.client_id
    and triggers.execution_token = tape.execution_token
    and triggers.date = tape.date
