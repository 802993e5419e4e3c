{# F(client_id, symbol, operation_id, t): the features of 5.1 of a relation of points, as a query. Offline, historical and
   online paths all call it, so that none can say another thing (spec/execution.md 5.1, 5.2, 6).

   `points`: client_id, symbol, operation_id, event_time (= t), what names a point (`keys`), and the level of its
   operation as of t, as the entity stop_triggers has it of a trigger and stop_levels() finds it for any other instant:
   stop_price, entry_price, entry_placed_at, entry_time, level_known_at, level_event_seq, all NULL where there is none.
   `windows`: int_market_bars__windows, or as much of it as has the minutes of all points; `runs`:
   int_stop_failures__runs, on the date of t and the one before.
   Nothing here reads the clock, a label or another point. Joins are by equality and one as-of join: a million points
   cost a sort, so a point goes into it with no more than what is asked of it later. #}
{% macro stop_features(points, windows, runs, keys=[]) -%}
with

-- what a point says by itself
points_alone as (

    select
        -- keys
        {% for key in keys -%}
        {{ key }},
        {% endfor -%}
        client_id,
        symbol,
        operation_id,
        event_time,
        {{ minute_number('event_time') }} as event_minute,

        -- the operation's level
        {{ stop_distance_pct('entry_price', 'stop_price') }} as stop_distance_pct,
        {{ whole_seconds('entry_placed_at', 'event_time') }} as time_to_trigger_sec,
        {{ whole_seconds('entry_time', 'event_time') }} as time_in_position_sec,

        -- lineage
        level_known_at,
        level_event_seq
    from {{ points }}

),

runs_of_failures as (

    select
        client_id,
        symbol,
        known_at,
        consecutive_failures_1h as failures,
        max_event_seq as failure_event_seq
    from {{ runs }}

),

-- Strictly before t: what became known at t was not known then.
points_with_runs as (

    select
        points_alone.*,
        runs_of_failures.known_at as run_known_at,
        runs_of_failures.failures,
        runs_of_failures.failure_event_seq
    {{ asof_left(
        'points_alone', 'runs_of_failures', on=['client_id', 'symbol'],
        left_time='event_time', right_time='known_at', strict=true
    ) }}

)

select
    -- keys
    {% for key in keys -%}
    points_with_runs.{{ key }},
    {% endfor -%}
    points_with_runs.client_id,
    points_with_runs.symbol,
    points_with_runs.operation_id,
    points_with_runs.event_time,

    -- the operation's level
    points_with_runs.stop_distance_pct,
    points_with_runs.time_to_trigger_sec,
    points_with_runs.time_in_position_sec,

    -- the market
    cast(case when bar_windows.return_count_15m >= 10 then bar_windows.volatility_15m end as decimal(10, 6))
        as volatility_15m,
    case when bar_windows.bar_count_24h >= 1368 then bar_windows.volume_24h end as volume_24h,
    case when bar_windows.bar_count_24h >= 1368 then bar_windows.volume_24h_base end as volume_24h_base,

    -- the clock: 1970-01-01 was a Thursday
    cast({{ idiv(epoch_us('points_with_runs.event_time'), '3600000000') }} % 24 as tinyint) as hour_of_day,
    cast(({{ idiv(epoch_us('points_with_runs.event_time'), '86400000000') }} + 3) % 7 as tinyint) as day_of_week,

    -- what this client's executions in the symbol did lately: within the hour
    case
        when
            {{ epoch_us('points_with_runs.event_time') }} - {{ epoch_us('points_with_runs.run_known_at') }}
            <= 3600000000
            then points_with_runs.failures
        else 0
    end as consecutive_failures_1h,

    -- lineage
    least(
        points_with_runs.event_time,
        coalesce(
            greatest(points_with_runs.level_known_at, points_with_runs.run_known_at, bar_windows.last_bar_end),
            points_with_runs.event_time
        )
    ) as available_at,
    greatest(points_with_runs.level_event_seq, points_with_runs.failure_event_seq) as source_max_event_seq
from points_with_runs
left join {{ windows }} as bar_windows
    on points_with_runs.symbol = bar_windows.symbol
    and points_with_runs.event_minute = {{ minute_number('bar_windows.minute') }}
{%- endmacro %}


{# |entry − stop| / entry × 100 in percent points: decimals up to the one division. #}
{% macro stop_distance_pct(entry_price, stop_price) -%}
{{ percent_points('abs(' ~ entry_price ~ ' - ' ~ stop_price ~ ') * 100 / nullif(' ~ entry_price ~ ', 0)') }}
{%- endmacro %}


{# Whole seconds from an instant to t, down; NULL where it lies after t, as nobody could know of it. #}
{% macro whole_seconds(since, until) -%}
case when {{ since }} <= {{ until }} then {{ idiv(epoch_us(until) ~ ' - ' ~ epoch_us(since), '1000000') }} end
{%- endmacro %}
