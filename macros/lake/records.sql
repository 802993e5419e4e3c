{# Records of the lake that are no dataset, as a relation: `experiments` (experiments.json) and `rebuilds` (what became of
   rebuilds of released dates). The SQL of reading JSON is the engine's own, so it is made in `lake.record_views`. #}
{% macro records(name) -%}
  {%- set job = {'op': 'records', 'name': name, 'sql': '(select 1)'} -%}
  {%- if execute -%}
    {%- do adapter.store_relation('lake', api.Relation.create(identifier='lake'), [], '', '', job) -%}
  {%- endif -%}
  {{ job.sql }}
{%- endmacro %}
