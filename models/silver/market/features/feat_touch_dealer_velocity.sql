with

points as (

    select * from {{ ref('observation_points') }}

),

flows as (

    select * from {{ ref('int_touch__gamma_flows') }}

),

velocities as (

    select
        points.session_date,
        points.observation_id,
        flows.flow_5m / 5 as gamma_flow_velocity,
        flows.flow_20m / 20 as gamma_flow_baseline,
        flows.flow_1m - flows.flow_1m_before as gamma_flow_accel_1m,
        (flows.flow_3m - flows.flow_3m_before) / 3 as gamma_flow_accel_3m,
        case when flows.option_prints > 0 then greatest(flows.flows_max_input_ts_ns, points.ratio_ts_ns) end
            as max_input_ts_ns
    from points
    inner join flows on points.observation_id = flows.observation_id

)

select
    -- keys
    session_date,
    observation_id,

    -- measures
    gamma_flow_velocity,
    case
        when abs(gamma_flow_baseline) > 0.000001
            then (gamma_flow_velocity - gamma_flow_baseline) / abs(gamma_flow_baseline)
    end as gamma_flow_impulse,
    gamma_flow_accel_1m,
    gamma_flow_accel_3m,
    tanh(-gamma_flow_accel_1m / cast({{ param('FLOW_ACCEL_NORM') }} as double)) as dealer_pressure_accel,

    -- time
    max_input_ts_ns as dealer_velocity_max_input_ts_ns
from velocities
