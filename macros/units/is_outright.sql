{# True for an outright ES contract such as ESZ5 or ESH26, false for spreads. Both engines read these patterns alike. #}
{% macro is_outright(column) -%}
(length({{ column }}) between 4 and 5 and substr({{ column }}, 1, 2) = 'ES' and substr({{ column }}, 3, 1) in ('H', 'M', 'U', 'Z')
    and substr({{ column }}, 4, 1) between '0' and '9'
    and (length({{ column }}) = 4 or substr({{ column }}, 5, 1) between '0' and '9'))
{%- endmacro %}
