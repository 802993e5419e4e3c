select
    -- keys
    rebuilds.dataset,
    rebuilds.date as session_date,
    rebuilds.rebuilt_digest,

    -- what was found
    rebuilds.outcome as warning_code,
    rebuilds.message,
    rebuilds.columns as differing_columns,
    rebuilds.inputs as changed_inputs,
    rebuilds.recorded_digest,

    -- time
    rebuilds.noticed_at,
    rebuilds.run_id
from {{ records('rebuilds') }} as rebuilds
where rebuilds.outcome <> 'equal'
