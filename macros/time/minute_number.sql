{# Whole minutes from 1970 UTC to an instant, down, BIGINT: what instants of one minute have in common, without a look
   at a calendar. #}
{% macro minute_number(column) -%}
{{ idiv(epoch_us(column), '60000000') }}
{%- endmacro %}
