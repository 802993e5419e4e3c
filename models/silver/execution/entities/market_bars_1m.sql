with

tape as (

    select * from {{ ref('int_market_bars__tape') }}
    where market = 'spot'

),

tape_gaps as (

    select * from {{ ref('int_market_bars__tape_gaps') }}
    where market = 'spot'

),

klines as (

    select * from {{ ref('stg_binance__klines') }}
    where market = 'spot' and bar_interval = '1m'

),

-- Gaps. A date sees one date to each side, whatever else a query may see: both are then one answer.
date_ends as (

    select
        symbol,
        date,
        min(first_agg_id) as first_agg_id,
        max(last_agg_id) as last_agg_id,
        min(open_time) as first_minute,
        max(open_time) as last_minute
    from tape
    group by symbol, date

),

neighbours as (

    select
        symbol,
        date as from_date,
        last_agg_id,
        last_minute as from_minute,
        lead(date) over dates as to_date,
        lead(first_agg_id) over dates as next_agg_id,
        lead(first_minute) over dates as to_minute
    from date_ends
    window dates as (partition by symbol order by date)

),

doubtful as (

    select
        symbol,
        date as from_date,
        date as to_date,
        from_minute,
        to_minute
    from tape_gaps

    union all

    select
        symbol,
        from_date,
        to_date,
        from_minute,
        to_minute
    from neighbours
    where next_agg_id > last_agg_id + 1

),

-- Minutes of the dates with trades, and of the dates after them, which may go on without.
dates as (

    select
        symbol,
        date
    from date_ends

    union distinct

    select
        symbol,
        date + 1 as date
    from date_ends

),

minutes as (

    select
        dates.symbol,
        dates.date,
        cast(dates.date as timestamp with time zone) + steps.minute_number * interval '1 minute' as open_time
    from dates
    cross join range(1440) as steps (minute_number)
    where {{ is_built_date('dates.date') }}

),

traded as (

    select
        symbol,
        date as traded_date,
        open_time as traded_time,
        open,
        high,
        low,
        close,
        volume,
        quote_volume,
        trade_count,
        lead(date) over minutes_of_symbol as next_date
    from tape
    window minutes_of_symbol as (partition by symbol order by open_time)

),

-- Each minute with the last one that had trades: itself or, when it had none, an earlier one.
as_of_minute as (

    select
        minutes.symbol,
        minutes.date,
        minutes.open_time,
        traded.traded_time = minutes.open_time as has_trades,
        traded.traded_date >= minutes.date - 1 and traded.next_date <= minutes.date + 1 as has_neighbours,
        traded.open,
        traded.high,
        traded.low,
        traded.close,
        traded.volume,
        traded.quote_volume,
        traded.trade_count
    {{ asof_left('minutes', 'traded', on=['symbol'], left_time='open_time', right_time='traded_time') }}

),

tape_bars as (

    select
        as_of_minute.date,
        as_of_minute.symbol,
        as_of_minute.open_time,
        case when as_of_minute.has_trades then as_of_minute.open else as_of_minute.close end as open,
        case when as_of_minute.has_trades then as_of_minute.high else as_of_minute.close end as high,
        case when as_of_minute.has_trades then as_of_minute.low else as_of_minute.close end as low,
        as_of_minute.close,
        case when as_of_minute.has_trades then as_of_minute.volume else 0 end as volume,
        case when as_of_minute.has_trades then as_of_minute.quote_volume else 0 end as quote_volume,
        case when as_of_minute.has_trades then as_of_minute.trade_count else 0 end as trade_count
    from as_of_minute
    left join doubtful
        on as_of_minute.symbol = doubtful.symbol
        and as_of_minute.open_time >= doubtful.from_minute
        and as_of_minute.open_time <= doubtful.to_minute
        and doubtful.from_date >= as_of_minute.date - 1
        and doubtful.to_date <= as_of_minute.date + 1
    where
        doubtful.symbol is null
        and (as_of_minute.has_trades or as_of_minute.has_neighbours)

),

bars as (

    select
        cast(open_time as date) as date,
        symbol,
        open_time,
        open,
        high,
        low,
        close,
        volume,
        quote_volume,
        trade_count,
        'kline' as bar_source
    from klines

    union all

    select
        tape_bars.date,
        tape_bars.symbol,
        tape_bars.open_time,
        tape_bars.open,
        tape_bars.high,
        tape_bars.low,
        tape_bars.close,
        tape_bars.volume,
        tape_bars.quote_volume,
        tape_bars.trade_count,
        'agg_trades' as bar_source
    from tape_bars
    left join klines
        on tape_bars.symbol = klines.symbol
        and tape_bars.open_time = klines.open_time
    where klines.symbol is null

)

select
    -- keys
    date,
    symbol,
    open_time,

    -- time
    open_time + interval '1 minute' as bar_end,

    -- measures
    cast(open as decimal(20, 8)) as open,
    cast(high as decimal(20, 8)) as high,
    cast(low as decimal(20, 8)) as low,
    cast(close as decimal(20, 8)) as close,
    cast(volume as decimal(20, 8)) as volume,
    cast(quote_volume as decimal(20, 8)) as quote_volume,
    cast(trade_count as bigint) as trade_count,

    -- origin
    bar_source
from bars
