with

trades as (

    select * from {{ ref('stg_futures__trades') }}

),

numbered as (

    select
        *,
        {{ file_order(['ts_event_ns', 'sequence', 'ordinal']) }} as event_position
    from trades

),

-- Seconds first: the wider bars then roll up thousands of rows, not millions. Two sums give both sides' volume, as
-- buys less sells and buys plus sells; a second lies in one session, so its date needs no place in the key.
bars_1s as (

    select
        min(session_date) as session_date,
        contract,
        {{ idiv('ts_event_ns', 1000000000) }} as start_s,
        min_by(tick, event_position) as open_tick,
        max(tick) as high_tick,
        min(tick) as low_tick,
        max_by(tick, event_position) as close_tick,
        cast(sum(size) as bigint) as volume,
        cast(sum(cast(tick as bigint) * size) as bigint) as notional_ticks,
        cast(sum(size * aggressor) as bigint) as signed_volume,
        cast(sum(size * abs(aggressor)) as bigint) as known_volume,
        count(*) as n_trades
    from numbered
    group by contract, start_s

),

{% for bar_s, narrower in [(60, 'bars_1s'), (120, 'bars_60s')] %}
    bars_{{ bar_s }}s as (

        select
            min(session_date) as session_date,
            contract,
            {{ idiv(narrower ~ '.start_s', bar_s) }} * {{ bar_s }} as start_s,
            min_by(open_tick, {{ narrower }}.start_s) as open_tick,
            max(high_tick) as high_tick,
            min(low_tick) as low_tick,
            max_by(close_tick, {{ narrower }}.start_s) as close_tick,
            cast(sum(volume) as bigint) as volume,
            cast(sum(notional_ticks) as bigint) as notional_ticks,
            cast(sum(signed_volume) as bigint) as signed_volume,
            cast(sum(known_volume) as bigint) as known_volume,
            cast(sum(n_trades) as bigint) as n_trades
        from {{ narrower }}
        group by contract, {{ idiv(narrower ~ '.start_s', bar_s) }}

    ),
{% endfor %}

bars as (

    {% for bar_s in [1, 60, 120] %}
        select
            *,
            {{ bar_s }} as bar_s
        from bars_{{ bar_s }}s
        {{ 'union all' if not loop.last }}
    {% endfor %}

)

select
    -- keys
    session_date,
    contract,
    bar_s,
    start_s * 1000000000 as bar_start_ns,
    (start_s + bar_s) * 1000000000 as bar_end_ns,

    -- measures
    open_tick,
    high_tick,
    low_tick,
    close_tick,
    volume,
    notional_ticks,
    {{ idiv('known_volume + signed_volume', 2) }} as buy_vol,
    {{ idiv('known_volume - signed_volume', 2) }} as sell_vol,
    n_trades
from bars
