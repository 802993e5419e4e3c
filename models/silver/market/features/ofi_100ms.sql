with

states as (

    select * from {{ ref('book_states') }}

)

select
    -- keys
    session_date,
    cell_end_ns - {{ param('grid_ms') }} * 1000000 as bucket_ns,

    -- measures
    ofi,
    ofi_l1
from states
