{{ config(materialized='view') }}

select
    -- keys
    samples.sample_id,
    samples.client_id,
    samples.symbol,
    samples.version,
    samples.split,
    samples.date,

    -- measures
    samples.features,
    samples.label,
    samples.metadata
from {{ records('training_sets_stop_outcome') }} as samples
