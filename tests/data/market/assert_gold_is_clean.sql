{{ config(meta={'across_dates': true}) }}
-- Training rows are the `ok` rows of dates whose front contract was the one that traded, each once, with features that
-- end before the outcome begins. Everything else was kept out on purpose and must not come back by a join.
with

gold as (

    select * from {{ ref('train_signals', v='1_0') }}

),

copies as (

    select observation_id, count(*) as copies
    from gold
    group by observation_id

)

select
    gold.session_date,
    gold.observation_id,
    gold.label_status,
    gold.asof_ns,
    gold.label_start_ns,
    front.roll_contaminated,
    copies.copies
from gold
inner join copies on gold.observation_id = copies.observation_id
left join {{ ref('dim_front_month') }} as front on gold.session_date = front.session_date
where
    gold.label_status != 'ok'
    or gold.label_start_ns < gold.asof_ns
    or gold.max_input_ts_ns >= gold.asof_ns
    or front.roll_contaminated
    or front.contract is null
    or front.contract != gold.contract
    or copies.copies > 1
