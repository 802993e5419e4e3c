-- A window that was resolved before it began, crosses the session or holds a gap has no outcome. A value on such a row
-- would be trained on as soon as somebody forgot the status; a missing one on an `ok` row is a hole in the training.
with

labels as (

    select
        *,
        coalesce(tradeable_1, tradeable_2) is not null
        or coalesce(
            time_to_break_1, time_to_break_2, time_to_bounce_1, time_to_bounce_2, excursion_max, excursion_min,
            strength_signed, strength_abs, anchor_spot, future_price, sample_weight
        ) is not null
        or outcome is not null
        or cluster_size is not null as has_any,
        outcome is not null
        and tradeable_1 is not null
        and tradeable_2 is not null
        and excursion_max is not null
        and excursion_min is not null
        and strength_signed is not null
        and future_price is not null
        and anchor_spot is not null
        and cluster_size is not null
        and sample_weight is not null as has_all
    from {{ ref('labels') }}

)

select params_digest, session_date, observation_id, label_status, outcome, tradeable_2, future_price
from labels
where (label_status = 'ok' and not has_all) or (label_status != 'ok' and has_any)
