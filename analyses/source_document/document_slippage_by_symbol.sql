-- Average slippage by symbol
SELECT
    symbol,
    AVG(slippage_pct) as avg_slippage_pct,
    QUANTILE_CONT(slippage_pct, 0.5) as median_slippage_pct,
    QUANTILE_CONT(slippage_pct, 0.95) as p95_slippage_pct
FROM {{ ref('stop_executions') }}
WHERE date BETWEEN '2024-01-01' AND '2024-12-27'
  AND slippage_pct IS NOT NULL
GROUP BY symbol
ORDER BY avg_slippage_pct ASC
