-- A volatility lies inside the bracket that it is sought in, gamma is never negative, and dealers take on the other
-- side of who started the print. A value outside was solved for another option or another side.
select params_digest, session_date, ts_event_ns, ordinal, iv, iv_source, gamma, delta, dealer_gamma
from {{ ref('option_greeks') }}
where
    iv < 0.01
    or iv > 5
    or gamma < 0
    or delta < case when "right" = 'C' then 0 else -1 end
    or delta > case when "right" = 'C' then 1 else 0 end
    or aggressor * dealer_gamma > 0
    or (dealer_gamma is null) != (aggressor = 0 or spot_tick is null)
    or (iv is null) != (dealer_gamma is null)
