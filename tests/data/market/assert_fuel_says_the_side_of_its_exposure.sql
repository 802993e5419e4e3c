-- The words of the fuel repeat the sign and the size of gamma_exposure, each set by its own threshold, and are UNKNOWN
-- exactly where there is none. Another word means that they were made of another number than the one beside them.
with

features as (

    select * from {{ ref('observation_features') }}

),

thresholds as (

    select * from {{ param_values('FUEL_EFFECT_THRESHOLD') }} as thresholds (params_digest, fuel_effect_threshold)

)

select
    features.params_digest,
    features.session_date,
    features.observation_id,
    features.gamma_exposure,
    features.fuel_effect,
    features.gamma_bucket
from features
-- inner: of a set that params/ no longer holds, nobody knows the threshold
inner join thresholds on features.params_digest = thresholds.params_digest
where
    features.gamma_bucket != case
        when features.gamma_exposure is null then 'UNKNOWN'
        when features.gamma_exposure < 0 then 'SHORT_GAMMA'
        else 'LONG_GAMMA'
    end
    or features.fuel_effect != case
        when features.gamma_exposure is null then 'UNKNOWN'
        when features.gamma_exposure < -thresholds.fuel_effect_threshold then 'AMPLIFY'
        when features.gamma_exposure > thresholds.fuel_effect_threshold then 'DAMPEN'
        else 'NEUTRAL'
    end
