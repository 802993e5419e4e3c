{# Of a list of fills, as json_struct lifts them. `joined_trade_ids`: their trade ids in byte order, joined by commas; NULL
   where no fill has one. `commissions`: a list of (asset, amount, price of the
   fill, or `price`) of the fills that say an amount; NULL where none does. #}
{% macro joined_trade_ids(fills) -%}
{{ return(adapter.dispatch('joined_trade_ids', 'tickhouse')(fills)) }}
{%- endmacro %}

{% macro duckdb__joined_trade_ids(fills) -%}
nullif(array_to_string(list_sort(list_transform({{ fills }}, lambda fill: fill.trade_id)), ','), '')
{%- endmacro %}

{% macro default__joined_trade_ids(fills) -%}
nullif(array_join(array_sort(transform({{ fills }}, fill -> fill.trade_id)), ','), '')
{%- endmacro %}

{% macro commissions(fills, price) -%}
{{ return(adapter.dispatch('commissions', 'tickhouse')(fills, price)) }}
{%- endmacro %}

{% macro duckdb__commissions(fills, price) -%}
case when len({{ fills }}) > 0 then nullif(list_filter(
    list_transform({{ fills }}, lambda fill: {
        'asset': nullif(fill.commission_asset, ''), 'amount': {{ decimal_text('fill.commission') }},
        'price': coalesce({{ decimal_text('fill.price') }}, {{ price }})
    }),
    lambda paid: paid.amount is not null
), list_value()) end
{%- endmacro %}

{% macro default__commissions(fills, price) -%}
case when size({{ fills }}) > 0 then nullif(filter(
    transform({{ fills }}, fill -> named_struct(
        'asset', nullif(fill.commission_asset, ''), 'amount', {{ decimal_text('fill.commission') }},
        'price', coalesce({{ decimal_text('fill.price') }}, {{ price }})
    )),
    paid -> paid.amount is not null
), array()) end
{%- endmacro %}
{# What one report paid: its commissions, else its own fee, as a list of (asset, amount, price, paid_at); NULL where it
   says neither. `together`: an aggregate that puts such lists into one, in order; NULL of none. #}
{% macro paid_fees(commissions, fee_asset, fee, price, paid_at) -%}
{{ return(adapter.dispatch('paid_fees', 'tickhouse')(commissions, fee_asset, fee, price, paid_at)) }}
{%- endmacro %}

{% macro duckdb__paid_fees(commissions, fee_asset, fee, price, paid_at) -%}
list_transform(
    coalesce({{ commissions }}, case when {{ fee }} is not null then [{
        'asset': {{ fee_asset }}, 'amount': {{ fee }}, 'price': {{ price }}
    }] end),
    lambda paid: {'asset': paid.asset, 'amount': paid.amount, 'price': paid.price, 'paid_at': {{ paid_at }}}
)
{%- endmacro %}

{% macro default__paid_fees(commissions, fee_asset, fee, price, paid_at) -%}
transform(
    coalesce({{ commissions }}, case when {{ fee }} is not null then array(named_struct(
        'asset', {{ fee_asset }}, 'amount', {{ fee }}, 'price', {{ price }}
    )) end),
    paid -> named_struct('asset', paid.asset, 'amount', paid.amount, 'price', paid.price, 'paid_at', {{ paid_at }})
)
{%- endmacro %}

{% macro together(lists) -%}
{{ return(adapter.dispatch('together', 'tickhouse')(lists)) }}
{%- endmacro %}

{% macro duckdb__together(lists) -%}
nullif(list_sort(flatten(list({{ lists }}) filter (where {{ lists }} is not null))), [])
{%- endmacro %}

{% macro default__together(lists) -%}
nullif(array_sort(flatten(collect_list({{ lists }}))), array())
{%- endmacro %}
