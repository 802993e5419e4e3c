with

session as (

    select
        *,
        case when {{ param('event_hours') }} = 'all' then globex_open_ns else rth_open_ns end
            as session_start_ns,
        case when {{ param('event_hours') }} = 'all' then globex_close_ns else rth_close_ns end
            as session_end_ns
    from {{ ref('dim_session') }}

),

ratios as (

    select * from {{ ref('dim_es_spy_ratio') }}

),

exposure as (

    select * from {{ ref('option_exposure') }}

),

front_trades as (

    select
        trades.session_date,
        trades.ts_event_ns,
        trades.tick
    from {{ ref('stg_futures__trades') }} as trades
    inner join {{ ref('dim_front_month') }} as front
        on trades.session_date = front.session_date
        and trades.contract = front.contract

),

numbered as (

    select
        *,
        {{ idiv('ts_event_ns', '60000000000') }} * 60000000000 + 60000000000 as minute_end_ns,
        {{ file_order(['ts_event_ns', 'sequence', 'ordinal']) }} as event_position
    from front_trades

),

-- one row per minute with trades, its last print: an as-of join must not meet ties
spots as (

    select
        session_date,
        minute_end_ns,
        max_by(tick, event_position) as spot_tick,
        max(ts_event_ns) as spot_ts_ns
    from numbered
    group by session_date, minute_end_ns

),

minutes as (

    select
        session.session_date,
        session.session_start_ns + grid.minute_number * 60000000000 as minute_ns
    from session
    cross join range(1380) as grid (minute_number)
    where session.session_start_ns + grid.minute_number * 60000000000 < session.session_end_ns

),

with_spot as (

    select
        minutes.*,
        spots.spot_tick,
        spots.spot_ts_ns
    {{ asof_left(
        'minutes', 'spots', on=['session_date'], left_time='minute_ns', right_time='minute_end_ns'
    ) }}

),

with_ratio as (

    select
        with_spot.*,
        ratios.es_spy_ratio,
        ratios.max_input_ts_ns as ratio_ts_ns,
        cast(floor(with_spot.spot_tick * cast(0.25 as double) * 1000 / ratios.es_spy_ratio + 0.5) as integer)
            as spot_spy_milli
    {{ asof_left(
        'with_spot', 'ratios', on=['session_date'], left_time='minute_ns', right_time='asof_ns'
    ) }}

),

option_inputs as (

    select
        minute_ns,
        max(max_input_ts_ns) as option_ts_ns
    from exposure
    group by minute_ns

),

-- Strikes within ±$10 of the spot.
near as (

    select
        exposure.minute_ns,
        exposure.strike_milli,
        exposure.right,
        exposure.dealer_gamma_window,
        exposure.dealer_gamma_strike,
        exposure.contracts_session,
        with_ratio.spot_spy_milli,
        abs(exposure.strike_milli - with_ratio.spot_spy_milli) as distance_milli
    from exposure
    inner join with_ratio on exposure.minute_ns = with_ratio.minute_ns
    where abs(exposure.strike_milli - with_ratio.spot_spy_milli) <= 10000

),

ranked as (

    select
        *,
        row_number() over (
            partition by minute_ns, "right" order by dealer_gamma_window asc, distance_milli asc, strike_milli asc
        ) as short_rank,
        row_number() over (
            partition by minute_ns, "right" order by dealer_gamma_window desc, distance_milli asc, strike_milli asc
        ) as long_rank
    from near

),

extremes as (

    select
        minute_ns,
        "right",
        strike_milli / cast(1000 as double) as strike,
        short_rank = 1 and dealer_gamma_window <= -{{ param('WALL_MIN_GAMMA') }} as is_short,
        long_rank = 1 and dealer_gamma_window >= {{ param('WALL_MIN_GAMMA') }} as is_long
    from ranked

),

walls as (

    select
        minute_ns,
        max(case when "right" = 'C' and is_short then strike end) as wall_short_call,
        max(case when "right" = 'P' and is_short then strike end) as wall_short_put,
        max(case when "right" = 'C' and is_long then strike end) as wall_long_call,
        max(case when "right" = 'P' and is_long then strike end) as wall_long_put
    from extremes
    group by minute_ns

),

-- The gamma flip is of the session's sums, both rights together.
session_strikes as (

    select
        minute_ns,
        strike_milli,
        max(spot_spy_milli) as spot_spy_milli,
        max(dealer_gamma_strike) as dealer_gamma
    from near
    where contracts_session > 0
    group by minute_ns, strike_milli

),

pairs as (

    select
        *,
        lead(strike_milli) over ascending as next_strike_milli,
        lead(dealer_gamma) over ascending as next_dealer_gamma,
        count(*) over (partition by minute_ns) as strike_count
    from session_strikes
    window ascending as (partition by minute_ns order by strike_milli)

),

flips as (

    select
        minute_ns,
        spot_spy_milli / cast(1000 as double) as spot_spy,
        strike_milli / cast(1000 as double)
        + (next_strike_milli - strike_milli) / cast(1000 as double)
        * (-dealer_gamma) / (next_dealer_gamma - dealer_gamma) as flip
    from pairs
    where
        strike_count >= 3
        and ((dealer_gamma < 0 and next_dealer_gamma > 0) or (dealer_gamma > 0 and next_dealer_gamma < 0))

),

nearest_flips as (

    select
        minute_ns,
        flip as hvl,
        row_number() over (partition by minute_ns order by abs(flip - spot_spy) asc, flip asc) as flip_rank
    from flips

),

joined as (

    select
        with_ratio.*,
        walls.wall_short_call,
        walls.wall_short_put,
        walls.wall_long_call,
        walls.wall_long_put,
        nearest_flips.hvl,
        option_inputs.option_ts_ns
    from with_ratio
    left join walls on with_ratio.minute_ns = walls.minute_ns
    left join nearest_flips on with_ratio.minute_ns = nearest_flips.minute_ns and nearest_flips.flip_rank = 1
    left join option_inputs on with_ratio.minute_ns = option_inputs.minute_ns

)

select
    -- keys
    session_date,
    minute_ns,

    -- the market as of then
    spot_tick,
    es_spy_ratio,
    spot_spy_milli,

    -- A wall holds until another one is defined; the flip is of this minute or not at all.
    last_value(wall_short_call ignore nulls) over so_far as wall_short_call,
    last_value(wall_short_put ignore nulls) over so_far as wall_short_put,
    last_value(wall_long_call ignore nulls) over so_far as wall_long_call,
    last_value(wall_long_put ignore nulls) over so_far as wall_long_put,
    hvl,

    -- time
    greatest(spot_ts_ns, ratio_ts_ns, option_ts_ns) as max_input_ts_ns
from joined
window so_far as (partition by session_date order by minute_ns rows between unbounded preceding and current row)
