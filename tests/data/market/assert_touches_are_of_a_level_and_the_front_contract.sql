-- A touch happens at a level that holds at that instant, at the level's value of that minute, in the contract that the
-- session is about. Anything else would label a line that nobody could have seen.
with

touches as (

    select * from {{ ref('touches') }}

),

levels as (

    select * from {{ ref('levels') }}

),

front as (

    select * from {{ ref('dim_front_month') }}

),

held as (

    select
        touches.params_digest,
        touches.event_id,
        count(levels.level_id) as levels_held
    from touches
    left join levels
        on touches.params_digest = levels.params_digest
        and touches.session_date = levels.session_date
        and touches.level_id = levels.level_id
        and touches.level_tick = levels.level_tick
        and touches.ts_ns >= levels.valid_from_ns
        and touches.ts_ns < levels.valid_to_ns
    group by touches.params_digest, touches.event_id

)

select
    touches.params_digest,
    touches.session_date,
    touches.event_id,
    touches.level_id,
    touches.contract,
    held.levels_held
from touches
inner join held on touches.params_digest = held.params_digest and touches.event_id = held.event_id
left join front on touches.session_date = front.session_date
where held.levels_held != 1 or front.contract is null or touches.contract != front.contract
