-- Silver layer: Null percentage
SELECT
    COUNT(*) as total_rows,
    COUNT(execution_id) as non_null_executions,
    COUNT(fill_price) as non_null_fill_prices,
    (COUNT(*) - COUNT(fill_price)) * 100.0 / COUNT(*) as null_fill_price_pct
FROM {{ ref('stop_executions') }}
WHERE date = '2024-12-27'
