with

trades as (

    select * from {{ ref('stg_binance__agg_trades') }}

),

minutes as (

    select
        *,
        date_trunc('minute', exchange_time) as open_time
    from trades

)

select
    -- keys
    cast(open_time as date) as date,
    symbol,
    market,
    open_time,

    -- measures: the order of trades is that of their numbers, not of clocks
    min_by(price, agg_id) as open,
    max(price) as high,
    min(price) as low,
    max_by(price, agg_id) as close,
    sum(quantity) as volume,
    sum(price * quantity) as quote_volume,
    -- an aggregate holds several trades, and a kline counts trades
    cast(sum(last_trade_id - first_trade_id + 1) as bigint) as trade_count,

    -- where the tape begins and ends
    min(agg_id) as first_agg_id,
    max(agg_id) as last_agg_id,
    min_by(exchange_time, agg_id) as first_time,
    max_by(exchange_time, agg_id) as last_time
from minutes
group by symbol, market, open_time
