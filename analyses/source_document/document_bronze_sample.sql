SELECT * FROM {{ source('bronze', 'events') }} WHERE date='2024-12-27' LIMIT 10
