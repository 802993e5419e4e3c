with

points as (

    select * from {{ ref('observation_points') }}

),

barrier as (

    select * from {{ ref('feat_touch_barrier') }}

),

tape as (

    select * from {{ ref('feat_touch_tape') }}

),

fuel as (

    select * from {{ ref('feat_touch_fuel') }}

),

dealer_velocity as (

    select * from {{ ref('feat_touch_dealer_velocity') }}

),

mean_reversion as (

    select
        *,
        -- the mean of those that are there
        (
            coalesce(mean_reversion_pressure_200, mean_reversion_pressure_400)
            + coalesce(mean_reversion_pressure_400, mean_reversion_pressure_200)
        ) / 2 as mean_pressure
    from {{ ref('feat_touch_mean_reversion') }}

),

confluence as (

    select * from {{ ref('feat_touch_confluence') }}

),

single as (

    select
        points.observation_id,
        (
            tanh(-barrier.barrier_delta_liq / cast({{ param('DELTA_LIQ_NORM') }} as double))
            + {{ clip('1 - barrier.wall_ratio / ' ~ param('WALL_RATIO_NORM')) }}
        ) / 2 as liquidity_pressure,
        points.direction_sign
        * (tape.tape_imbalance + {{ clip('tape.tape_velocity / ' ~ param('VELOCITY_NORM')) }})
        / 2 as tape_pressure,
        tanh(-fuel.gamma_exposure / {{ param('GAMMA_NORM') }}) as gamma_pressure,
        tanh(-dealer_velocity.gamma_flow_accel_3m / {{ param('FLOW_ACCEL_NORM') }}) as gamma_pressure_accel,
        tanh(-points.direction_sign * mean_reversion.mean_pressure) as reversion_pressure,
        -- stacked levels resist a break
        -confluence.confluence_pressure as stacking_relief,
        greatest(
            barrier.barrier_max_input_ts_ns,
            tape.tape_max_input_ts_ns,
            fuel.fuel_max_input_ts_ns,
            dealer_velocity.dealer_velocity_max_input_ts_ns,
            mean_reversion.mean_reversion_max_input_ts_ns,
            confluence.confluence_max_input_ts_ns
        ) as pressures_max_input_ts_ns
    from points
    inner join barrier on points.observation_id = barrier.observation_id
    inner join tape on points.observation_id = tape.observation_id
    inner join fuel on points.observation_id = fuel.observation_id
    inner join dealer_velocity on points.observation_id = dealer_velocity.observation_id
    inner join mean_reversion on points.observation_id = mean_reversion.observation_id
    inner join confluence on points.observation_id = confluence.observation_id

),

summed as (

    select
        *,
        case when liquidity_pressure is null then 0 else 1 end
        + case when tape_pressure is null then 0 else 1 end
        + case when gamma_pressure is null then 0 else 1 end
        + case when reversion_pressure is null then 0 else 1 end
        + case when stacking_relief is null then 0 else 1 end
            as part_count,
        coalesce(liquidity_pressure, 0)
        + coalesce(tape_pressure, 0)
        + coalesce(gamma_pressure, 0)
        + coalesce(reversion_pressure, 0)
        + coalesce(stacking_relief, 0)
            as part_sum
    from single

)

select
    -- keys
    observation_id,

    -- measures
    liquidity_pressure,
    tape_pressure,
    gamma_pressure,
    gamma_pressure_accel,
    reversion_pressure,
    case when part_count >= 3 then part_sum / part_count end as net_break_pressure,

    -- time
    pressures_max_input_ts_ns
from summed
