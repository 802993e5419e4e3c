with

trades as (

    select * from {{ ref('stg_binance__agg_trades') }}

),

-- Within a date: what is missing between two dates shows when both are read, in market_bars_1m and agg_trade_gaps.
pairs as (

    select
        cast(exchange_time as date) as date,
        symbol,
        market,
        lag(agg_id) over tape as before_agg_id,
        agg_id as after_agg_id,
        lag(exchange_time) over tape as before_time,
        exchange_time as after_time
    from trades
    window tape as (partition by symbol, market, cast(exchange_time as date) order by agg_id)

)

select
    -- keys
    date,
    symbol,
    market,
    before_agg_id,
    after_agg_id,

    -- time
    before_time,
    after_time,

    -- clocks may stand against the order of numbers: the minutes in doubt are those between both
    date_trunc('minute', least(before_time, after_time)) as from_minute,
    date_trunc('minute', greatest(before_time, after_time)) as to_minute
from pairs
where after_agg_id > before_agg_id + 1
