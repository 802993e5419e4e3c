with

updates as (

    select
        'stop_executions' as dataset,
        max(created_at) as last_silver_update
    from {{ ref('stop_executions') }}

    union all

    select
        'operations' as dataset,
        max(created_at) as last_silver_update
    from {{ ref('operations') }}

)

select
    -- keys
    dataset,

    -- measures
    now() - last_silver_update as silver_lag,

    -- flags
    case
        when last_silver_update is null then 'never built'
        -- the service level of silver, 24 h (dbt_project.yml; a law holds that they are equal)
        when last_silver_update < now() - interval '24' hour then 'stale'
        else 'fresh'
    end as status,

    -- time
    last_silver_update
from updates
