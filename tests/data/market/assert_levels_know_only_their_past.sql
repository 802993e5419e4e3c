-- A level is a line that was there before price came to it. Its value is of events before `source_asof_ns`, and it
-- holds from then on, never before; a validity without length would be touched by nothing and hides a wrong clock.
select params_digest, session_date, level_id, source_asof_ns, valid_from_ns, valid_to_ns
from {{ ref('levels') }}
where source_asof_ns > valid_from_ns or valid_from_ns >= valid_to_ns
