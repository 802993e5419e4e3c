-- A touch is the trade that came within TOUCH_BAND of an armed level. One further away means that the machine saw
-- another level than the row names. Each param set has its own band.
with

touches as (

    select * from {{ ref('touches') }}

),

bands as (

    select * from {{ param_values('TOUCH_BAND') }} as bands (params_digest, touch_band)

)

select
    touches.params_digest,
    touches.session_date,
    touches.event_id,
    touches.level_id,
    touches.level_tick,
    touches.touch_tick
from touches
-- inner: of a set that params/ no longer holds, nobody knows the band
inner join bands on touches.params_digest = bands.params_digest
where
    abs(touches.touch_tick - touches.level_tick) > {{ ticks('bands.touch_band', 'touches.es_spy_ratio') }}
