create function {schema}.dl_fingerprint(item jsonb) returns bytea
language sql immutable strict parallel safe
return sha256(convert_to(
  (select jsonb_object_agg(f.key, f.value) from jsonb_each('{"args": {}}' || item) f where f.value <> 'null' and f.key not in ('idempotency_key', 'job_id'))::text,
  'UTF8'
))
--;
comment on function {schema}.dl_fingerprint(jsonb) is 'Digest of a request as sent, without its idempotency key and id'
