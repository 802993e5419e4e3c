-- What was added less what was lost is the change, what was added and lost is the churn, and what was lost but not
-- traded was cancelled. These are sums over one set of changes, so they agree to the contract.
select
    params_digest,
    session_date,
    observation_id,
    barrier_added,
    barrier_canceled,
    barrier_filled,
    barrier_delta_liq,
    barrier_churn
from {{ ref('observation_features') }}
where
    barrier_delta_liq + barrier_churn != 2 * barrier_added
    or barrier_canceled != greatest(0, barrier_churn - barrier_added - barrier_filled)
    or least(barrier_added, barrier_filled, barrier_depth_in_zone) < 0
    -- not observable: nothing but the state is said, and the state is UNKNOWN
    or (barrier_state = 'UNKNOWN') != (not barrier_observable)
    or (barrier_delta_liq is null) != (not barrier_observable)
