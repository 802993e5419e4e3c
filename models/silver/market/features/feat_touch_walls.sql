with

points as (

    select * from {{ ref('observation_points') }}

),

walls as (

    select * from {{ ref('option_walls') }}

)

select
    -- keys
    points.session_date,
    points.observation_id,

    -- measures
    walls.wall_short_call,
    walls.wall_short_put,
    walls.wall_long_call,
    walls.wall_long_put,
    walls.hvl,

    -- time
    walls.max_input_ts_ns as walls_max_input_ts_ns
-- the last whole minute at or before the instant: its values are of events before itself
{{ asof_left('points', 'walls', on=['session_date'], left_time='asof_ns', right_time='minute_ns') }}
