-- Bronze freshness (max lag)
SELECT
    CURRENT_TIMESTAMP - MAX(occurred_at) as max_lag
FROM {{ source('bronze', 'events') }}
WHERE date = '2024-12-27'
