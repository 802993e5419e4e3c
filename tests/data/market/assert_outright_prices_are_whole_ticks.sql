{{ config(group="market") }}
-- A tick is a quarter of a point. Staging turns a price into ticks by a cast, which would round a price between two
-- ticks in silence; every comparison after it would be of something that nobody traded at.
-- Told as a failure of staging, which is what would be wrong; with no date of it to test, bronze isn't read.
select contract, ts_event_ns, sequence, delivery_id, price
from {{ source('bronze', 'futures_trades') }}
where
    symbol = 'ES'
    and {{ is_outright('contract') }}
    and price * 4 != floor(price * 4)
    and exists (select 1 from {{ ref('stg_futures__trades') }})
