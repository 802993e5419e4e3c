with

points as (

    select * from {{ ref('observation_points') }}

),

flows as (

    select * from {{ ref('int_touch__gamma_flows') }}

)

select
    -- keys
    points.session_date,
    points.observation_id,

    -- measures
    flows.flow_session as gamma_exposure,
    flows.flow_wg as gamma_exposure_wg,
    flows.flow_5m as gamma_exposure_5m,
    flows.flow_20m as gamma_exposure_20m,
    case
        when flows.flow_session is null then 'UNKNOWN'
        when flows.flow_session < -{{ param('FUEL_EFFECT_THRESHOLD') }} then 'AMPLIFY'
        when flows.flow_session > {{ param('FUEL_EFFECT_THRESHOLD') }} then 'DAMPEN'
        else 'NEUTRAL'
    end as fuel_effect,
    case
        when flows.flow_session is null then 'UNKNOWN'
        when flows.flow_session < 0 then 'SHORT_GAMMA'
        else 'LONG_GAMMA'
    end as gamma_bucket,
    tanh(-(flows.flow_5m / 5) / cast({{ param('GAMMA_FLOW_NORM') }} as double)) as dealer_pressure,

    -- time
    case when flows.option_prints > 0 then greatest(flows.flows_max_input_ts_ns, points.ratio_ts_ns) end
        as fuel_max_input_ts_ns
from points
inner join flows on points.observation_id = flows.observation_id
