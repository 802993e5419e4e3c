-- `tradeable_k` is a name for "a trade reached threshold k inside the window", and the time says when. They are made
-- from one search; a difference means that one of them was made from another window.
select
    params_digest,
    session_date,
    observation_id,
    tradeable_1,
    time_to_threshold_1,
    tradeable_2,
    time_to_threshold_2
from {{ ref('labels') }}
where
    label_status = 'ok'
    and (
        (tradeable_1 = 1) != (time_to_threshold_1 is not null)
        or (tradeable_2 = 1) != (time_to_threshold_2 is not null)
        or (outcome != 'CHOP') != (time_to_threshold_2 is not null)
        -- the nearer threshold is passed first
        or (tradeable_2 = 1 and tradeable_1 = 0)
        or time_to_threshold_1 > time_to_threshold_2
    )
