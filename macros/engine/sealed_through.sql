{# End of the last sealed hour window of each date of a source of hour windows, as a query of (date, sealed_through): of
   the date under construction by its markers, also where they hold no row. Where nothing is being built there are no
   markers, and every window with rows counts as sealed unless a session says otherwise. #}
{% macro sealed_through(relation, source, time_column) -%}
{{ return(adapter.dispatch('sealed_through', 'tickhouse')(relation, source, time_column)) }}
{%- endmacro %}

{% macro duckdb__sealed_through(relation, source, time_column) -%}
select
    getvariable('build_date')::date as date,
    getvariable('sealed_through_{{ source }}')::timestamptz as sealed_through
where getvariable('sealed_through_{{ source }}') is not null

union all

{{ tickhouse.default__sealed_through(relation ~ " where getvariable('build_date') is null and not ("
    ~ is_provisional_window(source, time_column) ~ ')', source, time_column) }}
{%- endmacro %}

{% macro default__sealed_through(relation, source, time_column) -%}
select
    date,
    max(date_trunc('hour', {{ time_column }})) + interval '1 hour' as sealed_through
from {{ relation }}
group by date
{%- endmacro %}
