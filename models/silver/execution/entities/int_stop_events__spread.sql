with

-- Tokens of a date that an earlier date holds too, of the same tenant or of another one. Straight from the dataset:
-- as a step of its own DuckDB would keep all dates in memory to read them three times.
met_again as (

    select distinct
        latest.date,
        latest.execution_token,
        latest.tenant_scope
    from {{ ref('int_stop_events__tokens') }} as latest
    inner join {{ ref('int_stop_events__tokens') }} as earlier
        on
        latest.execution_token = earlier.execution_token and latest.tenant_scope = earlier.tenant_scope
        and latest.date > earlier.date
    where {{ is_built_date('latest.date') }}

),

histories as (

    select
        met_again.date,
        tokens.client_id,
        tokens.execution_token,
        tokens.tenant_scope,
        tokens.date as event_date,
        tokens.home_date as own_home_date,
        tokens.first_occurred_at,
        {{ sequence_key('tokens.first_event_seq', 'tokens.first_sequence_at') }} as first_sequence_key,
        tokens.has_null_seq
    from met_again
    inner join {{ ref('int_stop_events__tokens') }} as tokens
        on
        met_again.execution_token = tokens.execution_token and met_again.tenant_scope = tokens.tenant_scope
        and met_again.date >= tokens.date

),

-- Over all dates up to this one: `bool_or` and `min` of the parts are those of the whole.
joined as (

    select
        *,
        bool_or(has_null_seq) over tenants as has_any_null_seq,
        min(first_occurred_at) over tenants as earliest_at,
        {{ sequence_key_time('min(first_sequence_key) over tenants') }} as earliest_sequence_at,
        min(client_id) over executions != max(client_id) over executions as is_shared
    from histories
    window
        executions as (partition by date, execution_token, tenant_scope),
        tenants as (partition by date, execution_token, client_id)

)

select
    -- keys
    date,
    client_id,
    execution_token,
    event_date,

    -- where it stands
    own_home_date,
    cast(case when has_any_null_seq then earliest_at else earliest_sequence_at end as date) as home_date,

    -- flags
    has_any_null_seq as has_null_seq,
    is_shared
from joined
