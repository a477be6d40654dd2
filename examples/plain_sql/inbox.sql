-- A table whose every new row asks for a job, in the transaction of whoever inserts it.
create table inbox (
    file text primary key,
    arrived_at timestamptz not null default now()
);

create function inbox_asks_for_a_load() returns trigger
language plpgsql as $$
begin
    perform public.dl_enqueue(
        queue => 'noop',
        task => 'noop',
        args => '{"chunks": 1}',
        idempotency_key => 'inbox-' || new.file,
        labels => jsonb_build_object('file', new.file));
    return new;
end $$;

create trigger inbox_asks_for_a_load after insert on inbox
    for each row execute function inbox_asks_for_a_load();
