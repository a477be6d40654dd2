create function {schema}.dl_uuid7() returns uuid
language sql volatile parallel safe
return encode(
  set_bit(
    set_bit(
      overlay(
        uuid_send(gen_random_uuid())
        placing substring(int8send(floor(date_part('epoch', clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6
      ), 52, 1
    ), 53, 1
  ), 'hex'
)::uuid
--;
comment on function {schema}.dl_uuid7() is 'A time-ordered UUID, version 7 of RFC 9562'
