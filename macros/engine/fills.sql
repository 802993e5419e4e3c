{# Of a list of fills, as json_struct lifts them. `joined_trade_ids`: their trade ids in byte order, joined by commas; NULL
   where no fill has one. `commissions`: a list of (asset, amount) of the fills that say an amount; NULL where none does. #}
{% macro joined_trade_ids(fills) -%}
{{ return(adapter.dispatch('joined_trade_ids', 'tickhouse')(fills)) }}
{%- endmacro %}

{% macro duckdb__joined_trade_ids(fills) -%}
nullif(array_to_string(list_sort(list_transform({{ fills }}, lambda fill: fill.trade_id)), ','), '')
{%- endmacro %}

{% macro default__joined_trade_ids(fills) -%}
nullif(array_join(array_sort(transform({{ fills }}, fill -> fill.trade_id)), ','), '')
{%- endmacro %}

{% macro commissions(fills) -%}
{{ return(adapter.dispatch('commissions', 'tickhouse')(fills)) }}
{%- endmacro %}

{% macro duckdb__commissions(fills) -%}
case when len({{ fills }}) > 0 then nullif(list_filter(
    list_transform({{ fills }}, lambda fill: {'asset': fill.commission_asset, 'amount': {{ decimal_text('fill.commission') }}}),
    lambda paid: paid.amount is not null
), list_value()) end
{%- endmacro %}

{% macro default__commissions(fills) -%}
case when size({{ fills }}) > 0 then nullif(filter(
    transform({{ fills }}, fill -> named_struct('asset', fill.commission_asset, 'amount', {{ decimal_text('fill.commission') }})),
    paid -> paid.amount is not null
), array()) end
{%- endmacro %}
