-- Levels and prints are whole ticks, so their distance in points is exact: no tolerance.
select params_digest, session_date, observation_id, level_price, spot, distance
from {{ ref('observation_features') }}
where distance != abs(level_price - spot)
