{# Left as-of join: each row of `left` with the last row of `right` at or before it (strictly before, with strict=true).
   The only place where an as-of join is written: engines differ in syntax, and one release answered it wrongly over
   Hive partitions. `right` must have one row per (keys, time), or ties are undefined. Gives `from … join …`. #}
{% macro asof_left(left, right, on, left_time, right_time, strict=false) -%}
{{ return(adapter.dispatch('asof_left', 'tickhouse')(left, right, on, left_time, right_time, strict)) }}
{%- endmacro %}

{% macro duckdb__asof_left(left, right, on, left_time, right_time, strict) -%}
from {{ left }}
    asof left join {{ right }}
        on {% for key in on %}{{ left }}.{{ key }} = {{ right }}.{{ key }}
        and {% endfor %}{{ left }}.{{ left_time }} {{ '>' if strict else '>=' }} {{ right }}.{{ right_time }}
{%- endmacro %}
