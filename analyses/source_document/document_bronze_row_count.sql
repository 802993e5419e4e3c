-- Bronze layer: Row count over time
SELECT date, COUNT(*) as row_count
FROM {{ source('bronze', 'events') }}
GROUP BY date
ORDER BY date DESC
LIMIT 30
