with

bars as (

    select * from {{ ref('ohlcv') }}

),

expiries as (

    select * from {{ ref('quarterly_expiries') }}

),

volumes as (

    select
        session_date,
        contract,
        sum(volume) as volume
    from bars
    where bar_s = 60
    group by session_date, contract

),

ranked as (

    select
        *,
        row_number()
            over (partition by session_date order by volume desc, contract asc)
            as volume_rank
    from volumes

),

sessions as (

    select
        session_date,
        sum(volume) as total_volume
    from volumes
    where {{ is_built_date('session_date') }}
    group by session_date

),

-- Known before the session opens: the leader of the latest earlier session with data. The date map of this model
-- reaches back ten sessions and no further.
by_volume as (

    select
        sessions.session_date,
        max_by(ranked.contract, ranked.session_date) as contract
    from sessions
    inner join ranked
        on sessions.session_date > ranked.session_date
        and ranked.volume_rank = 1
    group by sessions.session_date

),

by_calendar as (

    select
        sessions.session_date,
        min_by(expiries.contract, expiries.expiry_date) as contract
    from sessions
    inner join expiries on expiries.expiry_date > sessions.session_date + 8
    group by sessions.session_date

),

chosen as (

    select
        sessions.session_date,
        sessions.total_volume,
        coalesce(by_volume.contract, by_calendar.contract) as contract,
        case when by_volume.contract is null then 'calendar' else 'volume' end as selection
    from sessions
    left join by_volume on sessions.session_date = by_volume.session_date
    left join by_calendar on sessions.session_date = by_calendar.session_date

),

others as (

    select
        chosen.session_date,
        min_by(ranked.contract, ranked.volume_rank) as runner_up,
        max(ranked.volume) as runner_up_volume
    from chosen
    inner join ranked
        on chosen.session_date = ranked.session_date
        and chosen.contract != ranked.contract
    group by chosen.session_date

),

measured as (

    select
        chosen.session_date,
        chosen.contract,
        chosen.selection,
        chosen.total_volume,
        coalesce(volumes.volume, 0) / cast(chosen.total_volume as double) as dominance_ratio,
        others.runner_up,
        others.runner_up_volume / cast(chosen.total_volume as double) as runner_up_ratio
    from chosen
    left join volumes
        on chosen.session_date = volumes.session_date
        and chosen.contract = volumes.contract
    left join others on chosen.session_date = others.session_date

)

select
    -- keys
    session_date,

    -- known before the session opens
    contract,
    selection,

    -- known after the session: joined at gold only
    dominance_ratio,
    dominance_ratio < 0.60 as roll_contaminated,
    runner_up,
    runner_up_ratio,
    cast(total_volume as bigint) as total_contracts
from measured
