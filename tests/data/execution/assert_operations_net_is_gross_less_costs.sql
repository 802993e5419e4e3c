-- net_pnl = gross_pnl − fees − interest + funding, to the last digit that gross_pnl was rounded to; it is there exactly
-- where the operation is closed and every part has a price.
select
    date,
    client_id,
    operation_id,
    status,
    gross_pnl,
    fees_quote,
    interest_quote,
    funding_quote,
    net_pnl
from {{ ref('operations') }}
where
    (net_pnl is not null)
    != (status = 'CLOSED' and fees_quote is not null and interest_quote is not null and funding_quote is not null)
    or abs(net_pnl - (gross_pnl - fees_quote - interest_quote + funding_quote)) > 0.00000001
