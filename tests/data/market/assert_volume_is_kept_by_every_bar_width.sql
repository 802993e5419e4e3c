{{ config(group="market") }}
-- Bars of 1 s, 1 min and 2 min are roll-ups of one another: a session trades the same volume in each, and the trades
-- themselves say how much. A width that lost a bar, or a bar built from half a day, shows here.
with

by_width as (

    select session_date, contract, bar_s, sum(volume) as volume, sum(n_trades) as n_trades
    from {{ ref('ohlcv') }}
    group by session_date, contract, bar_s

),

traded as (

    select session_date, contract, sum(size) as volume, count(*) as n_trades
    from {{ ref('stg_futures__trades') }}
    group by session_date, contract

),

widths as (

    select * from (values (1), (60), (120)) as widths (bar_s)

),

expected as (

    select traded.*, widths.bar_s
    from traded
    cross join widths

)

select
    coalesce(expected.session_date, by_width.session_date) as session_date,
    coalesce(expected.contract, by_width.contract) as contract,
    coalesce(expected.bar_s, by_width.bar_s) as bar_s,
    expected.volume as traded_volume,
    by_width.volume as bar_volume,
    expected.n_trades as traded_prints,
    by_width.n_trades as bar_prints
from expected
full join by_width
    on expected.session_date = by_width.session_date
    and expected.contract = by_width.contract
    and expected.bar_s = by_width.bar_s
where
    by_width.volume is null
    or expected.volume is null
    or by_width.volume != expected.volume
    or by_width.n_trades != expected.n_trades
