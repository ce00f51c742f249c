-- Delete some keys whose time is over. What an append is just renewing is left alone, so that
-- neither waits for the other for longer than this statement takes.
with expired as materialized (
    select entity_id, key
    from cos_idempotency_keys
    where expires_at <= clock_timestamp()
    order by expires_at
    limit %(limit)s::bigint
    for update skip locked
)
delete from cos_idempotency_keys k
using expired e
where k.entity_id = e.entity_id and k.key = e.key
returning 1
