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
seconds as (

    select
        min(session_date) as session_date,
        contract,
        {{ idiv('ts_event_ns', 1000000000) }} as second_of_epoch,
        min_by(tick, event_position) as open_tick,
        max(tick) as high_tick,
        min(tick) as low_tick,
        max_by(tick, event_position) as close_tick,
        sum(size) as volume,
        sum(cast(tick as bigint) * size) as notional_ticks,
        sum(size * aggressor) as signed_volume,
        sum(size * abs(aggressor)) as known_volume,
        count(*) as n_trades
    from numbered
    group by contract, second_of_epoch

),

widths as (

    select * from (values (1), (60), (120)) as widths (bar_s)

),

bars as (

    select
        seconds.session_date,
        seconds.contract,
        widths.bar_s,
        {{ idiv('seconds.second_of_epoch', 'widths.bar_s') }} * widths.bar_s as start_s,
        min_by(seconds.open_tick, seconds.second_of_epoch) as open_tick,
        max(seconds.high_tick) as high_tick,
        min(seconds.low_tick) as low_tick,
        max_by(seconds.close_tick, seconds.second_of_epoch) as close_tick,
        cast(sum(seconds.volume) as bigint) as volume,
        cast(sum(seconds.notional_ticks) as bigint) as notional_ticks,
        cast(sum(seconds.known_volume + seconds.signed_volume) as bigint) as twice_buy_vol,
        cast(sum(seconds.known_volume - seconds.signed_volume) as bigint) as twice_sell_vol,
        cast(sum(seconds.n_trades) as bigint) as n_trades
    from seconds
    cross join widths
    group by seconds.session_date, seconds.contract, widths.bar_s, start_s

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
    {{ idiv('twice_buy_vol', 2) }} as buy_vol,
    {{ idiv('twice_sell_vol', 2) }} as sell_vol,
    n_trades
from bars
