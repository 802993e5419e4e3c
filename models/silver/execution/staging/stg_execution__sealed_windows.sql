with

sealed as (

    {{ sealed_through(source('bronze', 'events'), 'events', 'ingested_at') | indent(4) }}

)

select
    date,
    sealed_through
from sealed
