-- Attempts of one cluster are one piece of evidence seen several times: together they weigh as much as a single one.
with

labels as (

    select * from {{ ref('labels') }}
    where label_status = 'ok'

),

touches as (

    select * from {{ ref('touches') }}

)

select
    labels.params_digest,
    labels.session_date,
    touches.level_kind_name,
    touches.direction,
    touches.attempt_cluster_id,
    labels.stage,
    count(*) as ok_rows,
    min(labels.cluster_size) as smallest,
    max(labels.cluster_size) as largest
from labels
inner join touches on labels.params_digest = touches.params_digest and labels.event_id = touches.event_id
group by
    labels.params_digest,
    labels.session_date,
    touches.level_kind_name,
    touches.direction,
    touches.attempt_cluster_id,
    labels.stage
having
    count(*) != min(labels.cluster_size)
    or count(*) != max(labels.cluster_size)
    or abs(sum(labels.sample_weight) - 1) > 1e-9
