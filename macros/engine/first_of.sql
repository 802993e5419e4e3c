{# An aggregate: `value` of the row with the least `order_by`, also where it is NULL (DuckDB's min_by passes over those). #}
{% macro first_of(value, order_by) -%}
{{ return(adapter.dispatch('first_of', 'tickhouse')(value, order_by)) }}
{%- endmacro %}

{% macro duckdb__first_of(value, order_by) -%}
arg_min_null({{ value }}, {{ order_by }})
{%- endmacro %}

{% macro default__first_of(value, order_by) -%}
min_by({{ value }}, {{ order_by }})
{%- endmacro %}

{# An aggregate: the first `value` that isn't NULL by `order_by`. DuckDB's min_by passes over those that are. #}
{% macro first_known(value, order_by) -%}
{{ return(adapter.dispatch('first_known', 'tickhouse')(value, order_by)) }}
{%- endmacro %}

{% macro duckdb__first_known(value, order_by) -%}
min_by({{ value }}, {{ order_by }})
{%- endmacro %}

{% macro default__first_known(value, order_by) -%}
min_by({{ value }}, {{ order_by }}) filter (where {{ value }} is not null)
{%- endmacro %}
