{# A parameter's value in every param set of the repository, as rows of (params_digest, value) to be named by the reader:
   `select * from {{ param_values('GAP_S') }} as gaps (params_digest, gap_s)`. For data tests: a model that is being built
   has one set, and takes its values by `param`. #}
{% macro param_values(name) -%}
  {%- set job = {'op': 'param_values', 'name': name, 'rows': [('', 'null')]} -%}
  {%- if execute -%}
    {%- do adapter.store_relation('lake', api.Relation.create(identifier='lake'), [], '', '', job) -%}
  {%- endif -%}
  (values {% for digest, value in job.rows -%} ('{{ digest }}', {{ value }}){{ ', ' if not loop.last }} {%- endfor %})
{%- endmacro %}
