{{ config(severity='warn') }}
-- The change of equity is profit, fees, interest and flows, to 0.01 of the quote currency (spec/execution.md 4.9). Only
-- a warning: whoever holds assets outside of operations has a residual by their price, and it is never adjusted away.
select
    client_id,
    period_start,
    period_end,
    residual
from {{ ref('portfolio_residuals') }}
where abs(residual) > 0.01
