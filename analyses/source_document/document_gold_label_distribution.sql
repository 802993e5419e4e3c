-- Gold layer: Label distribution
SELECT
    label.execution_success,
    COUNT(*) as sample_count,
    COUNT(*) * 100.0 / SUM(COUNT(*)) OVER() as percentage
FROM {{ ref('training_sets_stop_outcome') }}
WHERE version = 'v1.0.0'
GROUP BY label.execution_success
