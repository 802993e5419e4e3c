with

states as (

    select * from {{ ref('int_operations__states') }}

),

executions as (

    select * from {{ ref('int_stop_executions__folded') }}
    where {{ is_empty_list('failed_rules') }}

),

ledger as (

    select * from {{ ref('ledger') }}

),

fills as (

    select * from {{ ref('fills') }}

),

records as (

    select
        date,
        client_id,
        operation_id
    from states

    union distinct

    select
        date,
        client_id,
        operation_id
    from executions

    union distinct

    select
        date,
        client_id,
        related_operation_id as operation_id
    from ledger
    where related_operation_id is not null

    union distinct

    select
        date,
        client_id,
        operation_id
    from fills
    where operation_id is not null

),

traded as (

    select
        date,
        client_id,
        operation_id,
        min(symbol) as symbol,
        sum(case side when 'BUY' then quantity else -quantity end) as net_bought,
        sum(case when commission_asset = base_asset then commission else 0 end) as base_commission
    from fills
    where operation_id is not null
    group by date, client_id, operation_id

)

select
    -- keys
    records.date,
    records.client_id,
    records.operation_id,

    -- measures
    traded.symbol,
    cast(traded.net_bought as decimal(20, 8)) as net_bought,
    cast(traded.base_commission as decimal(20, 8)) as base_commission
from records
left join traded
    on records.date = traded.date
    and records.client_id = traded.client_id
    and records.operation_id = traded.operation_id
