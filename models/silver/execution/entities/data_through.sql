with

sealed as (

    select * from {{ ref('stg_execution__sealed_windows') }}

)

select
    date,
    sealed_through as data_through
from sealed
