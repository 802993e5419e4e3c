-- How the label of stop_outcome is distributed in each version and split, of samples up to a date:
-- `--vars '{date: 2024-12-27}'`, by default all of them.
select
    version,
    metadata.split as split,
    label.execution_success,
    count(*) as sample_count,
    100.0 * count(*) / sum(count(*)) over (partition by version, metadata.split) as percentage
from {{ ref('training_sets_stop_outcome') }}
where date <= cast('{{ var("date", none) or "9999-12-31" }}' as date)
group by version, metadata.split, label.execution_success
order by version, metadata.split, label.execution_success
