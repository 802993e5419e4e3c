with

points as (

    select
        *,
        {{ idiv('asof_ns', 60000000000) }} * 60000000000 as minute_ns,
        {{ ticks(param('CONFLUENCE_BAND'), 'es_spy_ratio') }} as band_ticks,
        {{ ticks(1.0, 'es_spy_ratio') }} as dollar_ticks
    from {{ ref('observation_points') }}

),

geometry as (

    select * from {{ ref('feat_touch_geometry') }}

),

averages as (

    select * from {{ ref('feat_touch_mean_reversion') }}

),

fuel as (

    select * from {{ ref('feat_touch_fuel') }}

),

walls as (

    select * from {{ ref('feat_touch_walls') }}

),

session as (

    select * from {{ ref('dim_session') }}

),

volume_profile as (

    select * from {{ ref('int_bars__volume_profile') }}

),

levels as (

    select
        levels.*,
        kinds.weight
    from {{ ref('levels') }} as levels
    inner join {{ ref('level_kinds') }} as kinds on levels.level_kind = kinds.level_kind

),

-- Every level that is valid at asof. A dynamic level holds for one whole minute, so its start names it: no range of
-- times is joined but for the few static ones.
active as (

    select
        points.observation_id,
        points.level_id <> levels.level_id as is_other,
        levels.level_kind_name,
        levels.level_tick,
        levels.weight,
        abs(levels.level_tick - points.level_tick) as distance_ticks,
        points.band_ticks
    from points
    inner join levels
        on points.session_date = levels.session_date
        and points.minute_ns = levels.valid_from_ns
    where levels.dynamic

    union all

    select
        points.observation_id,
        points.level_id <> levels.level_id as is_other,
        levels.level_kind_name,
        levels.level_tick,
        levels.weight,
        abs(levels.level_tick - points.level_tick) as distance_ticks,
        points.band_ticks
    from points
    inner join levels
        on points.session_date = levels.session_date
        and points.asof_ns >= levels.valid_from_ns
        and points.asof_ns < levels.valid_to_ns
    where not levels.dynamic

),

-- Weights are decimals and distances are ticks, so both sums are exact in any order. A band of no ticks holds levels
-- at distance 0 alone, which count in full.
others as (

    select
        observation_id,
        count(case when distance_ticks <= band_ticks then 1 end) as confluence_count,
        sum(case when distance_ticks <= band_ticks then weight * (greatest(band_ticks, 1) - distance_ticks) end)
            as weight_in_band,
        sum(weight) as weight_of_all,
        min(distance_ticks) as min_distance_ticks,
        count(case when distance_ticks between 1 and 8 then 1 end) as level_stacking_2pt,
        count(case when distance_ticks between 1 and 20 then 1 end) as level_stacking_5pt,
        count(case when distance_ticks between 1 and 40 then 1 end) as level_stacking_10pt
    from active
    where is_other
    group by observation_id

),

ranges as (

    select
        observation_id,
        max(case when level_kind_name = 'PM_HIGH' then level_tick end) as pm_high_tick,
        max(case when level_kind_name = 'PM_LOW' then level_tick end) as pm_low_tick,
        max(case when level_kind_name = 'OR_HIGH' then level_tick end) as or_high_tick,
        max(case when level_kind_name = 'OR_LOW' then level_tick end) as or_low_tick
    from active
    group by observation_id

),

-- The same clock interval of the full sessions before.
volumes as (

    select
        volume_profile.session_date,
        volume_profile.minute_ns,
        volume_profile.volume_since_open,
        sum(earlier.volume_since_open) as earlier_volume,
        count(earlier.session_date) as earlier_sessions
    from volume_profile
    left join volume_profile as earlier
        on volume_profile.minutes_since_open = earlier.minutes_since_open
        and volume_profile.session_date > earlier.session_date
        and earlier.is_full_session
    where {{ is_built_date('volume_profile.session_date') }}
    group by volume_profile.session_date, volume_profile.minute_ns, volume_profile.volume_since_open

),

relative_volumes as (

    select
        session_date,
        minute_ns,
        case
            when earlier_sessions >= 3 and earlier_volume > 0
                then cast(volume_since_open * earlier_sessions as double) / cast(earlier_volume as double)
        end as rel_vol_ratio
    from volumes

),

observed as (

    select
        points.observation_id,
        points.direction,
        points.level_price,
        points.band_ticks,
        points.spot_tick,
        points.spot_tick * cast(0.25 as double) as spot,
        points.dollar_ticks,
        points.asof_ns < session.rth_open_ns + 3600000000000 as is_first_hour,
        others.confluence_count,
        others.weight_in_band,
        others.weight_of_all,
        others.min_distance_ticks,
        others.level_stacking_2pt,
        others.level_stacking_5pt,
        others.level_stacking_10pt,
        ranges.pm_high_tick,
        ranges.pm_low_tick,
        ranges.or_high_tick,
        ranges.or_low_tick,
        geometry.atr,
        averages.sma_200,
        averages.sma_400,
        averages.sma_200_slope,
        averages.sma_400_slope,
        fuel.fuel_effect,
        {{ ticks('walls.wall_short_call', 'points.es_spy_ratio') }} as call_wall_tick,
        {{ ticks('walls.wall_short_put', 'points.es_spy_ratio') }} as put_wall_tick,
        relative_volumes.rel_vol_ratio,
        -- a trade of any level, bar or average is at or before the spot's
        greatest(
            points.spot_ts_ns,
            points.ratio_ts_ns,
            averages.mean_reversion_max_input_ts_ns,
            fuel.fuel_max_input_ts_ns,
            walls.walls_max_input_ts_ns
        ) as confluence_max_input_ts_ns
    from points
    inner join session on points.session_date = session.session_date
    inner join geometry on points.observation_id = geometry.observation_id
    inner join averages on points.observation_id = averages.observation_id
    inner join fuel on points.observation_id = fuel.observation_id
    inner join walls on points.observation_id = walls.observation_id
    left join others on points.observation_id = others.observation_id
    left join ranges on points.observation_id = ranges.observation_id
    left join relative_volumes
        on points.session_date = relative_volumes.session_date
        and points.minute_ns = relative_volumes.minute_ns

),

scored as (

    select
        *,
        coalesce(cast(weight_in_band as double), 0) / greatest(band_ticks, 1) as confluence_weighted_score,
        case
            when pm_high_tick is null or pm_low_tick is null or or_high_tick is null or or_low_tick is null then null
            when spot_tick > pm_high_tick and spot_tick > or_high_tick then 2
            when spot_tick < pm_low_tick and spot_tick < or_low_tick then 3
            when
                spot_tick > pm_high_tick or spot_tick > or_high_tick
                or spot_tick < pm_low_tick or spot_tick < or_low_tick
                then 1
            else 0
        end as breakout_state,
        sma_200_slope < 0 and sma_400_slope < 0 and sma_200_slope > sma_400_slope as is_falling,
        sma_200_slope > 0 and sma_400_slope > 0 and sma_200_slope < sma_400_slope as is_rising,
        level_price < sma_200 and level_price < sma_400 as is_below_both,
        level_price > sma_200 and level_price > sma_400 as is_above_both,
        coalesce(abs(spot - sma_200) / spot < 0.005 and abs(spot - sma_400) / spot < 0.005, false) as is_close,
        coalesce(rel_vol_ratio >= 1.3, false) as is_high_volume
    from observed

),

judged as (

    select
        *,
        case
            when sma_200 is null or sma_400 is null then null
            when is_below_both and is_falling then case direction when 'UP' then 1 else -1 end
            when is_above_both and is_rising then case direction when 'UP' then -1 else 1 end
            else 0
        end as confluence_alignment,
        case
            when breakout_state is null or breakout_state < 2 then null
            when call_wall_tick is null or put_wall_tick is null then null
            when fuel_effect = 'AMPLIFY' and breakout_state = 2 and spot_tick > call_wall_tick then 1
            when fuel_effect = 'AMPLIFY' and breakout_state = 3 and spot_tick < put_wall_tick then 1
            when fuel_effect = 'DAMPEN' and breakout_state = 2 and abs(spot_tick - call_wall_tick) < dollar_ticks
                then -1
            when fuel_effect = 'DAMPEN' and breakout_state = 3 and abs(spot_tick - put_wall_tick) < dollar_ticks
                then -1
            else 0
        end as gex_alignment
    from scored

)

select
    -- keys
    observation_id,

    -- other levels
    cast(coalesce(confluence_count, 0) as integer) as confluence_count,
    confluence_weighted_score,
    coalesce(confluence_weighted_score / cast(weight_of_all as double), 0) as confluence_pressure,
    min_distance_ticks * cast(0.25 as double) as confluence_min_distance,
    min_distance_ticks * cast(0.25 as double) / (atr + 1e-6) as confluence_min_distance_atr,

    -- where the price stands
    cast(confluence_alignment as tinyint) as confluence_alignment,
    cast(
        case
            when breakout_state is null then 0
            when breakout_state = 0 then 10
            when breakout_state = 1 then 9
            when is_first_hour and is_close and gex_alignment = 1 and is_high_volume then 1
            when is_first_hour and is_close and gex_alignment = 1 then 2
            when is_first_hour and is_close then 3
            when is_first_hour and gex_alignment = 1 and is_high_volume then 4
            when is_first_hour then 5
            when is_close and is_high_volume then 6
            else 7
        end as tinyint
    ) as confluence_level,
    cast(breakout_state as tinyint) as breakout_state,
    cast(gex_alignment as tinyint) as gex_alignment,
    rel_vol_ratio,

    -- stacking
    cast(coalesce(level_stacking_2pt, 0) as integer) as level_stacking_2pt,
    cast(coalesce(level_stacking_5pt, 0) as integer) as level_stacking_5pt,
    cast(coalesce(level_stacking_10pt, 0) as integer) as level_stacking_10pt,

    -- lineage
    confluence_max_input_ts_ns
from judged
