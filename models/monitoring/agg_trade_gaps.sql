with

tape as (

    select * from {{ ref('int_market_bars__tape') }}

),

gaps_within_dates as (

    select * from {{ ref('int_market_bars__tape_gaps') }}

),

date_ends as (

    select
        symbol,
        market,
        date,
        min(first_agg_id) as first_agg_id,
        max(last_agg_id) as last_agg_id,
        min_by(first_time, first_agg_id) as first_time,
        max_by(last_time, last_agg_id) as last_time
    from tape
    group by symbol, market, date

),

neighbours as (

    select
        symbol,
        market,
        date,
        lag(last_agg_id) over dates as before_agg_id,
        first_agg_id as after_agg_id,
        lag(last_time) over dates as before_time,
        first_time as after_time
    from date_ends
    window dates as (partition by symbol, market order by date)

),

gaps as (

    select
        symbol,
        market,
        date,
        before_agg_id,
        after_agg_id,
        before_time,
        after_time
    from gaps_within_dates

    union all

    select
        symbol,
        market,
        date,
        before_agg_id,
        after_agg_id,
        before_time,
        after_time
    from neighbours
    where after_agg_id > before_agg_id + 1

)

select
    -- keys
    date,
    symbol,
    market,
    before_agg_id + 1 as first_missing_agg_id,
    after_agg_id - 1 as last_missing_agg_id,

    -- measures
    after_agg_id - before_agg_id - 1 as missing_trades,

    -- time
    before_time,
    after_time
from gaps
