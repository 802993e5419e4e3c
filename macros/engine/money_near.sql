{# An exact DECIMAL(38,16) as DECIMAL(20,8), halves away from zero, by way of a double `near` it: within 0.001 of it wherever
   it is below 10^10. NULL where this way doesn't lead; `rounded_money` goes the other one there.

   DuckDB divides 128-bit numbers bit by bit, 2 µs for each cast to fewer decimals. What is left above a near number of
   eight decimals is small enough to be rounded in 64 bits; it is taken from the side of zero, so that its halves are those
   of the whole. #}
{% macro money_near(exact, near) -%}
{{ return(adapter.dispatch('money_near', 'tickhouse')(exact, near)) }}
{%- endmacro %}

{% macro duckdb__money_near(exact, near) -%}
{%- set below -%} try_cast({{ near }} - case when {{ exact }} < 0 then -0.001 else 0.001 end as decimal(18, 8)) {%- endset -%}
cast({{ below }} + cast(try_cast({{ exact }} - {{ below }} as decimal(18, 16)) as decimal(18, 8)) as decimal(20, 8))
{%- endmacro %}

{% macro default__money_near(exact, near) -%}
cast(null as decimal(20, 8))
{%- endmacro %}
