{# Clip to [−1, 1]. NULL stays NULL: least() and greatest() alone would skip it. #}
{% macro clip(value) -%}
case when {{ value }} is not null then least(greatest({{ value }}, -1.0), 1.0) end
{%- endmacro %}
