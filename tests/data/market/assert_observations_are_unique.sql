{{ config(meta={'across_dates': true}) }}
-- An observation is named by its event and stage alone, over all dates. Two of one name would be joined to each
-- other's labels. The lake checks keys inside one partition; this looks across them.
with

points as (

    select params_digest, observation_id, event_id, stage from {{ ref('observation_points') }}

),

by_name as (

    select params_digest, observation_id as what, count(*) as copies
    from points
    group by params_digest, observation_id

),

by_stage as (

    select params_digest, event_id || ' ' || stage as what, count(*) as copies
    from points
    group by params_digest, event_id, stage

)

select * from by_name
where copies > 1

union all

select * from by_stage
where copies > 1
