-- Open and close are prints of the bar, so neither can lie outside its range, and one-sided volume is a part of the
-- whole. Levels and ATR are built from these four numbers.
select session_date, contract, bar_s, bar_start_ns, open_tick, high_tick, low_tick, close_tick, volume
from {{ ref('ohlcv') }}
where
    low_tick > least(open_tick, close_tick)
    or high_tick < greatest(open_tick, close_tick)
    or buy_vol + sell_vol > volume
    or bar_end_ns != bar_start_ns + cast(bar_s as bigint) * 1000000000
    or n_trades < 1
