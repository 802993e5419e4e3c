-- What a row used lies strictly before the instant that it is known at. One at it or after it saw its own future, and
-- every figure of a model that learned from it is worth nothing.
select session_date, 'observation_features' as dataset, asof_ns as instant_ns, max_input_ts_ns
from {{ ref('observation_features') }}
where max_input_ts_ns >= asof_ns

union all

select session_date, 'dim_es_spy_ratio' as dataset, asof_ns as instant_ns, max_input_ts_ns
from {{ ref('dim_es_spy_ratio') }}
where max_input_ts_ns >= asof_ns

union all

select session_date, 'option_exposure' as dataset, minute_ns as instant_ns, max_input_ts_ns
from {{ ref('option_exposure') }}
where max_input_ts_ns >= minute_ns

union all

select session_date, 'option_walls' as dataset, minute_ns as instant_ns, max_input_ts_ns
from {{ ref('option_walls') }}
where max_input_ts_ns >= minute_ns
