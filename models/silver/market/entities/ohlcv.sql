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

-- Seconds first: the wider bars then roll up thousands of rows, not millions.
seconds as (

    select
        session_date,
        contract,
        {{ idiv('ts_event_ns', 1000000000) }} as second_of_epoch,
        min(event_position) as first_position,
        min_by(tick, event_position) as open_tick,
        max(tick) as high_tick,
        min(tick) as low_tick,
        max_by(tick, event_position) as close_tick,
        sum(size) as volume,
        sum(cast(tick as bigint) * size) as notional_ticks,
        sum(case when aggressor = 1 then size else 0 end) as buy_vol,
        sum(case when aggressor = -1 then size else 0 end) as sell_vol,
        count(*) as n_trades
    from numbered
    group by session_date, contract, second_of_epoch

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
        min_by(seconds.open_tick, seconds.first_position) as open_tick,
        max(seconds.high_tick) as high_tick,
        min(seconds.low_tick) as low_tick,
        max_by(seconds.close_tick, seconds.first_position) as close_tick,
        sum(seconds.volume) as volume,
        sum(seconds.notional_ticks) as notional_ticks,
        sum(seconds.buy_vol) as buy_vol,
        sum(seconds.sell_vol) as sell_vol,
        sum(seconds.n_trades) as n_trades
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
    cast(volume as bigint) as volume,
    cast(notional_ticks as bigint) as notional_ticks,
    cast(buy_vol as bigint) as buy_vol,
    cast(sell_vol as bigint) as sell_vol,
    cast(n_trades as bigint) as n_trades
from bars
