{# `earlier < later` of two dates, in a `where` beside a join. As a condition of the join DuckDB would take its date, which
   is a cast of the path's, for one to pass over files by, fail, and read also those that the keys rule out. #}
{% macro is_before(earlier, later) -%}
{{ return(adapter.dispatch('is_before', 'tickhouse')(earlier, later)) }}
{%- endmacro %}

{% macro duckdb__is_before(earlier, later) -%}
least({{ earlier }}, {{ later }}) != {{ later }}
{%- endmacro %}

{% macro default__is_before(earlier, later) -%}
{{ earlier }} < {{ later }}
{%- endmacro %}
