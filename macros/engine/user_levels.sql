{# The lines of the param set's USER_LEVELS as a query: price_points DOUBLE, from_ns and until_ns BIGINT. #}
{% macro user_levels() -%}
{{ return(adapter.dispatch('user_levels', 'tickhouse')()) }}
{%- endmacro %}

{% macro duckdb__user_levels() -%}
{%- set type = 'struct(price_points double, from_at timestamptz, until_at timestamptz)[]' -%}
select
    given.price_points,
    epoch_ns(given.from_at) as from_ns,
    epoch_ns(given.until_at) as until_ns
from (select unnest({{ param('USER_LEVELS', type) }}) as given)
{%- endmacro %}
