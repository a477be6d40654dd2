"""Tables and queries of another database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import asyncpg
import pytest

from dataloader.config import Settings
from dataloader.connectors.sql import SqlSource
from tests.conftest import direct_dsn
from tests.loading.scene import Scene, message, result
from tests.workers.harness import eventually

HOW: dict[str, object] = {"connection": "shop", "source_table": "orders"}
NEW: dict[str, object] = HOW | {"incremental_key": "id"}


@pytest.fixture
async def shop(scene: Scene, make_settings: Callable[..., Settings]) -> Scene:
    """A scene with another database, which is the same one under another name."""
    connections = json.dumps({"shop": direct_dsn(scene.settings), "away": "postgresql://u:hunter2@127.0.0.1:1/none"})
    settings = make_settings(dl_connections=connections, workers_json='[{"queue": "load.sql", "concurrency": 2}]')
    await scene.pg.execute(
        "create table orders (id bigserial primary key, amount numeric(10,2), note varchar(20), tags text[]);"
        "insert into orders (amount, note, tags) select n / 3.0, 'note ' || n, array['a', null, n::text]"
        " from generate_series(1, 100) n"
    )
    return replace(scene, settings=settings, task="load.sql")


async def differs(shop: Scene) -> list[tuple[object, ...]]:
    """Return rows that are in one table and not in the other."""
    return await shop.rows("(table orders except all table t) union all (table t except all table orders)")


@pytest.mark.parametrize("chunk_rows", [1, 7, 100, None])
@pytest.mark.parametrize("mode", ["append", "replace", "merge"])
async def test_a_table_is_loaded_whole_with_its_types(shop: Scene, mode: str, chunk_rows: int | None) -> None:
    job = await shop.load(**HOW, mode=mode, primary_key=["id"], chunk_rows=chunk_rows)

    assert result(job)["rows"] == 100
    assert await differs(shop) == []
    assert await shop.types() == await shop.types("orders")


async def test_a_query_is_loaded(shop: Scene) -> None:
    query = "select id % 10 as bucket, sum(amount) as total from orders group by 1 -- per bucket"

    job = await shop.load(connection="shop", query=query)

    assert result(job)["rows"] == 10
    assert await shop.types() == {"bucket": "bigint", "total": "numeric"}
    assert await shop.rows("select sum(total) from t") == await shop.rows("select sum(amount) from orders")


async def test_a_table_without_a_key_is_loaded_in_one_transaction(shop: Scene) -> None:
    await shop.pg.execute("alter table orders drop constraint orders_pkey; insert into orders select * from orders")

    job = await shop.load(**HOW)

    assert result(job)["rows"] == 200
    assert await differs(shop) == []


async def test_types_are_converted_where_the_table_has_others(shop: Scene) -> None:
    await shop.pg.execute("create table t (id int primary key, amount float8, note text, tags text)")

    job = await shop.load(**HOW)

    assert result(job)["rows"] == 100
    assert await shop.rows("select * from t where id = 3") == [(3, 1.0, "note 3", "{a,NULL,3}")]


@pytest.mark.parametrize("mode", ["append", "merge"])
async def test_an_incremental_load_takes_what_is_new(shop: Scene, mode: str) -> None:
    how = NEW | {"mode": mode, "primary_key": ["id"], "chunk_rows": 30}
    first = await shop.load(**how)
    await shop.pg.execute("insert into orders (amount) select 1 from generate_series(1, 50)")

    second, third = await shop.loads(how, how)

    assert (result(first)["rows"], result(first)["mark"]) == (100, "100")
    again = 1 if mode == "merge" else 0
    assert (result(second)["rows"], result(second)["mark"]) == (50 + again, "150")
    assert result(third)["rows"] == again
    assert await differs(shop) == []


async def test_a_merge_by_time_of_change_takes_changed_rows(shop: Scene) -> None:
    await shop.pg.execute("alter table orders add column changed timestamptz default clock_timestamp()")
    how = HOW | {"incremental_key": "changed", "mode": "merge", "primary_key": ["id"]}
    await shop.load(**how)
    await shop.pg.execute("update orders set amount = -7, changed = clock_timestamp() where id <= 3")

    await shop.load(**how)

    assert await shop.rows("select id from t where amount = -7 order by id") == [(1,), (2,), (3,)]
    assert await differs(shop) == []


async def test_a_transaction_that_is_still_open_loses_no_row(shop: Scene) -> None:
    other = await open_connection(shop)
    await other.execute("begin; insert into orders (amount) values (101)")
    await shop.pg.execute("insert into orders (amount) values (102)")

    async def commit_once_it_waits() -> None:
        async def waits() -> bool:
            return bool(await other.fetchval("select 1 from dl_jobs where status = 'running'"))

        await eventually(waits)
        await other.execute("commit")

    async with asyncio.TaskGroup() as group:
        group.create_task(commit_once_it_waits())
        job = await shop.load(**NEW)

    await other.close()
    assert result(job)["rows"] == 102
    assert await differs(shop) == []


async def test_a_transaction_that_stays_open_puts_the_load_off(shop: Scene) -> None:
    other = await open_connection(shop)
    await other.execute("begin; insert into orders (amount) values (101)")

    job = await shop.put_off(**NEW, wait_s=0)

    await other.close()
    assert job["attempt"] == 0
    (reason,) = await shop.rows("select data::text from dl_job_events order by event_id desc limit 1")
    assert "is open that may still add older rows" in reason[0]


async def open_connection(shop: Scene) -> asyncpg.Connection[asyncpg.Record]:
    """Open another session of the source."""
    return await asyncpg.connect(direct_dsn(shop.settings))


async def test_a_load_that_fails_goes_on_behind_its_last_chunk(shop: Scene) -> None:
    await shop.pg.execute("create table t (like orders); alter table t add check (id < 50)")
    job = await shop.load(**NEW, chunk_rows=20)
    assert "violates check constraint" in message(job)
    assert await shop.rows("select count(*) from t") == [(40,)]

    await shop.pg.execute("alter table t drop constraint t_id_check; insert into orders (amount) values (1)")
    await shop.pg.execute("update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5")
    (again,) = await shop.ended(job["job_id"])

    assert (result(again)["rows"], result(again)["mark"]) == (100, "100")
    assert await shop.rows("select count(*), count(distinct id) from t") == [(100, 100)]


async def test_a_mark_that_another_load_has_moved_is_noticed(shop: Scene) -> None:
    await shop.pg.execute("create table t (like orders); alter table t add check (id < 50)")
    job = await shop.load(**NEW, chunk_rows=20)
    await shop.pg.execute("alter table t drop constraint t_id_check")
    await shop.load(**NEW)
    await shop.pg.execute(
        "update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5 where job_id = $1",
        job["job_id"],
    )

    (again,) = await shop.ended(job["job_id"])

    assert "another load has moved the mark" in message(again)
    assert await differs(shop) == []


async def test_a_table_that_was_dropped_is_not_loaded_in_part(shop: Scene) -> None:
    await shop.load(**NEW)
    await shop.pg.execute("drop table t")
    await shop.pg.execute("insert into orders (amount) values (1)")

    refused, anew = await shop.loads(NEW, NEW | {"full_refresh": True})

    assert "is gone, with the rows that were loaded before; full_refresh=true loads everything anew" in message(refused)
    assert result(anew)["rows"] == 101


@pytest.mark.parametrize("mode", ["append", "merge"])
async def test_a_source_that_starts_over_is_noticed(shop: Scene, mode: str) -> None:
    how = NEW | {"mode": mode, "primary_key": ["id"] if mode == "merge" else []}
    await shop.load(**how)
    await shop.pg.execute("truncate orders restart identity; insert into orders (note) values ('anew')")

    refused, anew = await shop.loads(how, how | {"full_refresh": True})

    told = "the greatest id of shop.public.orders is 1, and it has been loaded up to 100: it has started over"
    assert told in message(refused)
    assert "full_refresh=true" in message(refused)
    assert result(anew)["mark"] == "1"
    assert await shop.rows("select note from t where note = 'anew'") == [("anew",)]


async def test_a_column_that_is_expected_and_not_there_is_noticed_in_the_first_chunk(shop: Scene) -> None:
    job = await shop.load(**HOW, chunk_rows=10, expect={"unique": ["nothing"]})

    assert "expect names nothing, which is not among the columns: id, amount, note, tags" in message(job)
    assert await shop.pg.fetchval("select to_regclass('t')") is None


async def test_a_key_that_was_renamed_between_attempts_is_named(shop: Scene) -> None:
    await shop.pg.execute("create table t (like orders); alter table t add check (id < 50)")
    job = await shop.load(**HOW, chunk_rows=20)
    await shop.pg.execute("alter table orders rename id to number; alter table t drop constraint t_id_check")
    await shop.pg.execute("update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5")

    (again,) = await shop.ended(job["job_id"])

    assert json.loads(again["error"])["type"] == "PermanentError"
    assert "has no column id; it has number, amount, note, tags; its columns have changed since" in message(again)


async def test_a_constraint_that_is_checked_at_the_commit_ends_the_load_at_once(shop: Scene) -> None:
    await shop.pg.execute(
        "update orders set amount = 1; create table t (like orders, unique (amount) deferrable initially deferred)"
    )

    job = await shop.load(**HOW)

    assert json.loads(job["error"])["type"] == "PermanentError"
    assert "duplicate key value violates unique constraint" in message(job)
    assert "Key (amount)=(1.00) already exists (23505)" in message(job)


async def test_a_source_whose_rows_are_gone_brings_nothing(shop: Scene) -> None:
    await shop.load(**NEW)
    await shop.pg.execute("delete from orders")

    again = await shop.load(**NEW)

    assert (result(again)["rows"], result(again)["mark"]) == (0, "100")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (
            {"connection": "none", "query": "select 1 as a"},
            "no connection 'none' in DL_CONNECTIONS; known are: away, shop",
        ),
        ({"connection": "shop", "query": "delete from orders returning id"}, "syntax error"),
        ({"connection": "shop", "query": "select 1 as a; delete from orders"}, "syntax error"),
        ({"connection": "shop", "query": "select 1 as a) q; delete from orders; select (1"}, "multiple commands"),
        ({"connection": "shop", "query": "select 1 as a) q --"}, "syntax error"),
        ({"connection": "shop", "query": "with x as (delete from orders returning id) select * from x"}, "top level"),
        ({"connection": "shop", "query": "select nextval('orders_id_seq') as n"}, "read-only"),
        ({"connection": "shop", "query": "select 1, 2"}, "every column needs a name of its own"),
        ({"connection": "shop", "query": "select id from orders where false"}, "0 rows came, at least 1"),
        ({"connection": "shop", "query": "select 1 / 0 as a"}, "division by zero"),
        ({"connection": "shop", "source_table": "nowhere"}, "does not exist"),
        (HOW | {"incremental_key": "nothing"}, "has no column nothing; it has id, amount, note, tags"),
        ({"connection": "shop", "query": "select null::int as k", "incremental_key": "k"}, "has rows without k"),
    ],
)
async def test_what_cannot_be_read_is_refused_with_a_reason(shop: Scene, args: dict[str, object], reason: str) -> None:
    job = await shop.load(**args)

    assert reason in message(job)
    assert await shop.rows("select count(*), sum(amount) is not null from orders") == [(100, True)]
    assert await shop.pg.fetchval("select to_regclass('t')") is None


async def test_a_database_that_is_away_fails_without_showing_its_password(shop: Scene) -> None:
    job = await shop.load(connection="away", query="select 1 as a")

    assert "away cannot be reached" in message(job)
    assert "hunter2" not in str(dict(job))


async def test_amounts_stay_exact(shop: Scene) -> None:
    await shop.load(connection="shop", query="select 12345678901234567890.123456789::numeric as amount")

    assert await shop.rows() == [(Decimal("12345678901234567890.123456789"),)]


async def test_a_row_that_bears_the_time_at_which_its_transaction_began_is_waited_for(shop: Scene) -> None:
    """It may have written nothing when the greatest time was read, and bring a smaller one all the same."""
    await shop.pg.execute("create table late (id serial primary key, at timestamptz not null default now())")
    other = await open_connection(shop)
    await other.execute("begin; select now()")
    await shop.pg.execute("insert into late default values")
    how: dict[str, object] = {
        "connection": "shop",
        "source_table": "late",
        "incremental_key": "at",
        "mode": "merge",
        "primary_key": ["id"],
    }

    await shop.put_off(**how, wait_s=0)
    await other.execute("insert into late default values; commit")
    await other.close()
    await shop.load(**how)

    assert await shop.rows("select count(*) from t") == [(2,)]


async def test_a_transaction_that_takes_a_key_before_the_greatest_is_read_is_waited_for(
    shop: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await open_connection(shop)
    highest = SqlSource.highest

    async def overtaken(source: SqlSource, key: str) -> str | None:
        if not other.is_in_transaction():
            await other.execute("begin; insert into orders (amount) values (101)")
            await shop.pg.execute("insert into orders (amount) values (102)")
        return await highest(source, key)

    monkeypatch.setattr(SqlSource, "highest", overtaken)
    await shop.put_off(**NEW, wait_s=0)
    await other.execute("rollback")
    await other.close()


@pytest.mark.parametrize("kind", ["char(3)", "bit(10)"])
async def test_keys_of_types_with_a_length_lead_through_a_query(shop: Scene, kind: str) -> None:
    await shop.pg.execute(
        f"create table keyed (k {kind} primary key); insert into keyed"
        f" select {'n::bit(10)' if kind == 'bit(10)' else 'n::text'} from generate_series(1, 300) n"
    )

    job = await shop.load(connection="shop", query="select * from keyed", primary_key=["k"], chunk_rows=50)

    assert result(job)["rows"] == 300
    assert await shop.rows("(select k::text from keyed except select k::text from t)") == []


async def test_one_source_and_target_have_one_mark_however_they_are_spelled(shop: Scene) -> None:
    await shop.load(**NEW | {"source_table": "orders", "table": "t"})
    again = await shop.load(**NEW | {"source_table": "public.orders", "table": "public.t"})

    assert result(again)["rows"] == 0
    assert await differs(shop) == []


async def test_an_address_that_the_driver_cannot_read_is_refused_without_a_piece_of_it(
    shop: Scene, make_settings: Callable[..., Settings]
) -> None:
    connections = json.dumps({"shop": "postgresql://u:Sekr3t@localhost/db?sslmode=Sekr3t"})
    workers = '[{"queue": "load.sql", "concurrency": 1}]'
    settings = make_settings(dl_connections=connections, workers_json=workers)

    job = await replace(shop, settings=settings).load(**NEW)

    assert json.loads(job["error"])["type"] == "PermanentError"
    assert "the address of shop in DL_CONNECTIONS" in message(job)
    assert "kr3t" not in str(dict(job))


async def test_floats_that_come_take_no_digits_from_stored_numbers(shop: Scene) -> None:
    await shop.pg.execute("create table t (k int, n numeric, b bigint, s int, small numeric(5,2))")
    await shop.pg.execute("insert into t values (1, 12345678901234567890.123, 9007199254740993, 5, 1.5)")
    query = "select 2 as k, 1.5::float8 as n, 'NaN'::float4 as b, 99999999999 as s, 1000.5::numeric(6,2) as small"

    result(await shop.load(connection="shop", query=query, on_schema_change="evolve"))

    assert await shop.types() == {"k": "integer", "n": "numeric", "b": "numeric", "s": "bigint", "small": "numeric"}
    assert await shop.rows("select n::text, b::text, s::text, small::text from t order by k") == [
        ("12345678901234567890.123", "9007199254740993", "5", "1.50"),
        ("1.5", "NaN", "99999999999", "1000.50"),
    ]


async def test_a_key_that_orders_what_is_read_need_not_be_one_of_the_table_that_is_replaced(shop: Scene) -> None:
    await shop.pg.execute("create view given as select n from generate_series(1, 5) n; create table t (n int)")

    job = await shop.load(connection="shop", source_table="given", mode="replace", primary_key=["n"], chunk_rows=2)

    assert result(job)["rows"] == 5
    assert await shop.rows("select n from t order by n") == [(n,) for n in range(1, 6)]
