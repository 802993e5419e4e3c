{#- The door for `tickhouse features parity`, which compares what was served online with what the lake says of the same
    keys and instants. Until something is served there is nothing to compare. -#}
select
    -- keys
    cast(null as bigint) as client_id,
    cast(null as varchar) as symbol,
    cast(null as varchar) as feature_set,
    cast(null as varchar) as feature_version,
    cast(null as varchar) as feature,
    cast(null as timestamp with time zone) as event_time,

    -- measures
    cast(null as varchar) as online_value,
    cast(null as varchar) as offline_value,

    -- flags
    cast(null as boolean) as is_equal,

    -- time
    cast(null as timestamp with time zone) as compared_at
where false
