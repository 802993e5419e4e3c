-- Silver freshness (job completion)
SELECT
    MAX(created_at) as last_silver_update,
    CURRENT_TIMESTAMP - MAX(created_at) as silver_lag
FROM {{ ref('stop_executions') }}
WHERE date = '2024-12-27'
