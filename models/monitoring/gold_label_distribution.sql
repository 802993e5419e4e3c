with

samples as (

    select * from {{ ref('training_sets_stop_outcome') }}

),

labelled as (

    select
        samples.version,
        samples.metadata.split,
        samples.label.execution_success
    from samples

)

select
    -- keys
    version,
    split,
    execution_success,

    -- measures
    count(*) as sample_count,
    100.0 * count(*) / sum(count(*)) over (partition by version, split) as percentage
from labelled
group by version, split, execution_success
