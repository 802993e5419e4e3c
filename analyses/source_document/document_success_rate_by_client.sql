-- Success rate by client
SELECT
    client_id,
    COUNT(*) as total_executions,
    SUM(CASE WHEN status = 'EXECUTED' THEN 1 ELSE 0 END) as successful,
    SUM(CASE WHEN status = 'EXECUTED' THEN 1 ELSE 0 END) * 100.0 / COUNT(*) as success_rate_pct
FROM {{ ref('stop_executions') }}
WHERE date BETWEEN '2024-01-01' AND '2024-12-27'
GROUP BY client_id
ORDER BY success_rate_pct DESC
