-- Each is a fraction or a mean of values clipped to [-1, 1]; a value outside says that a norm or a sign is wrong.
select params_digest, session_date, observation_id, tape_imbalance, liquidity_pressure, tape_pressure, gamma_pressure
from {{ ref('observation_features') }}
where
    abs(tape_imbalance) > 1
    or abs(liquidity_pressure) > 1
    or abs(tape_pressure) > 1
    or abs(gamma_pressure) > 1
    or abs(gamma_pressure_accel) > 1
    or abs(dealer_pressure) > 1
    or abs(dealer_pressure_accel) > 1
    or abs(reversion_pressure) > 1
    or abs(net_break_pressure) > 1
    or barrier_zone_visible_frac < 0
    or barrier_zone_visible_frac > 1
