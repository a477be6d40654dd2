"""Merges into one table at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from dataloader.connectors.identifiers import TableName
from dataloader.connectors.loading import staging
from dataloader.connectors.loading.moves import STAGE, straight
from dataloader.connectors.loading.staging import WORTH_ROWS, create_stage, move_good_rows, move_stage
from dataloader.storage.db import Connection
from tests.conftest import direct_dsn
from tests.loading.scene import Scene
from tests.workers.harness import eventually

T = TableName("public", "t")
MOVE = straight(T, ("id", "n"), key=("id",))
WAITING = """
select count(*) from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0
"""


@asynccontextmanager
async def merging(scene: Scene, *, id_type: str = "int") -> AsyncIterator[Connection]:
    """Open a transaction with a stage; commit it at the end."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(direct_dsn(scene.settings))
    try:
        async with connection.transaction():
            await create_stage(connection, {"id": id_type, "n": "int"})
            yield connection
    finally:
        await connection.close()


async def stage(conn: Connection, *rows: tuple[object, int]) -> None:
    """Stage rows in place of those that were."""
    await conn.execute(f"truncate {STAGE.sql} restart identity")
    await conn.copy_records_to_table(STAGE.name, schema_name=STAGE.schema, records=rows, columns=("id", "n"))


async def move(conn: Connection, *ids: int, reject: bool = True) -> None:
    """Merge rows of these keys."""
    await stage(conn, *((one, 0) for one in ids))
    if reject:
        await move_good_rows(conn, MOVE, source="f", reject=lambda row: None)
    else:
        await move_stage(conn, MOVE, source="f")


@pytest.mark.parametrize("other_rejects", [True, False])
async def test_merges_that_set_rows_aside_wait_for_others_and_do_not_deadlock(
    scene: Scene, other_rejects: bool
) -> None:
    await scene.pg.execute("create table t (id int primary key, n int)")

    async def merge_in_order() -> None:
        async with merging(scene) as conn:
            await move(conn, 1, 2, reject=other_rejects)

    async with asyncio.TaskGroup() as group, merging(scene) as conn:
        await move(conn, 2)
        group.create_task(merge_in_order())
        await eventually(lambda: scene.pg.fetchval(WAITING))
        await move(conn, 1)

    assert await scene.rows("select id from t order by id") == [(1,), (2,)]


async def test_merges_that_go_by_key_do_not_wait_for_each_other(scene: Scene) -> None:
    await scene.pg.execute("create table t (id int primary key, n int)")

    async with merging(scene) as one, merging(scene) as other:
        await move(one, 1, reject=False)
        await move(other, 2, reject=False)

    assert await scene.rows("select id from t order by id") == [(1,), (2,)]


@asynccontextmanager
async def told(conn: Connection) -> AsyncIterator[list[str]]:
    """Collect the statements of a block that went through."""
    statements: list[str] = []

    def note(logged: asyncpg.connection.LoggedQuery) -> None:
        if logged.exception is None:
            statements.append(logged.query)

    with conn.query_logger(note):
        yield statements


def parted(statements: list[str]) -> bool:
    """Return whether rows were moved by the statement for new keys."""
    return any(statement.startswith("with latest") for statement in statements)


async def test_a_chunk_of_few_rows_is_not_worth_the_question_whether_they_are_new(scene: Scene) -> None:
    await scene.pg.execute("create table t (id int primary key, n int)")

    for rows in (WORTH_ROWS - 1, WORTH_ROWS):
        async with merging(scene) as conn, told(conn) as statements:
            await stage(conn, *((rows * WORTH_ROWS + one, 0) for one in range(rows)))
            await move_stage(conn, MOVE, source="f")
        assert parted(statements) == (rows == WORTH_ROWS)


@pytest.fixture
def of_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a chunk of one row be worth the question."""
    monkeypatch.setattr(staging, "WORTH_ROWS", 1)


@pytest.mark.usefixtures("of_one_row")
class TestNewKeys:
    async def test_keys_that_are_new_go_in_without_on_conflict_and_the_last_of_one_wins(self, scene: Scene) -> None:
        await scene.pg.execute("create table t (id int primary key, n int)")

        async with merging(scene) as conn, told(conn) as statements:
            await stage(conn, (2, 1), (1, 1), (2, 2))
            await move_stage(conn, MOVE, source="f")

        assert parted(statements)
        assert MOVE.sql not in statements
        assert await scene.rows("select id, n from t order by id") == [(1, 1), (2, 2)]

    async def test_keys_that_the_target_has_are_updated_also_where_the_first_ones_were_new(self, scene: Scene) -> None:
        await scene.pg.execute("create table t (id int primary key, n int)")
        await scene.pg.execute("insert into t values (1001, 1), (1002, 2)")
        before = await scene.rows("select ctid from t where id = 1002")

        async with merging(scene) as conn, told(conn) as statements:
            await stage(conn, *((one, 0) for one in range(1000)), (1001, 3), (1001, 4), (1002, 2))
            await move_stage(conn, MOVE, source="f")

        assert parted(statements)
        assert await scene.rows("select count(*) from t") == [(1002,)]
        assert await scene.rows("select id, n from t where id > 1000 order by id") == [(1001, 4), (1002, 2)]
        assert await scene.rows("select ctid from t where id = 1002") == before, "it is stored as it was"

    async def test_keys_whose_first_ones_are_known_go_the_way_of_on_conflict(self, scene: Scene) -> None:
        await scene.pg.execute("create table t (id int primary key, n int)")
        await scene.pg.execute("insert into t values (1, 1)")

        async with merging(scene) as conn, told(conn) as statements:
            await stage(conn, (1, 2), (2, 2))
            await move_stage(conn, MOVE, source="f")

        assert not parted(statements)
        assert await scene.rows("select id, n from t order by id") == [(1, 2), (2, 2)]

    async def test_a_key_that_somebody_else_inserts_meanwhile_is_updated(self, scene: Scene) -> None:
        await scene.pg.execute("create table t (id int primary key, n int)")

        async with asyncio.TaskGroup() as group, merging(scene) as conn, told(conn) as statements:
            await stage(conn, (1, 1), (2, 1))
            async with scene.pg.transaction():
                await scene.pg.execute("insert into t values (2, 0)")
                moving = group.create_task(move_stage(conn, MOVE, source="f"))
                other = await asyncpg.connect(direct_dsn(scene.settings))
                await eventually(lambda: other.fetchval(WAITING))
                await other.close()
            await moving

        assert not parted(statements)
        assert await scene.rows("select id, n from t order by id") == [(1, 1), (2, 1)]

    async def test_a_target_that_would_be_read_from_end_to_end_for_each_row_is_not_looked_up(
        self, scene: Scene
    ) -> None:
        await scene.pg.execute('create table t (id text, n int); create unique index on t (id collate "C")')
        await scene.pg.execute("insert into t select 'old ' || i, 0 from generate_series(1, 2000) i; analyze t")

        async with merging(scene, id_type="text") as conn, told(conn) as statements:
            await stage(conn, ("a", 1), ("old 2000", 1))
            await move_stage(conn, MOVE, source="f")
            read = await conn.fetchval("select seq_tup_read from pg_stat_xact_user_tables where relname = 't'")

        assert not parted(statements)
        assert read == 0
        assert await scene.rows("select id, n from t where n = 1 order by id") == [("a", 1), ("old 2000", 1)]

    async def test_a_target_that_is_looked_up_by_a_part_of_the_key_only_is_not_looked_up(self, scene: Scene) -> None:
        await scene.pg.execute("create table t (id int, name text, n int, unique (id, name)); create index on t (id)")
        await scene.pg.execute("insert into t select i, repeat('x', 200), 0 from generate_series(1, 1000) i; analyze t")
        await scene.pg.execute("insert into t select 0, repeat('x', 200) || i, 0 from generate_series(1, 5000) i")

        async with merging(scene, id_type="int") as conn, told(conn) as statements:
            await conn.execute(f"alter table {STAGE.sql} add name text default 'new'")
            await stage(conn, (0, 1))
            await move_stage(conn, straight(T, ("id", "name", "n"), key=("id", "name")), source="f")

        assert not parted(statements)
        assert await scene.rows("select id, name, n from t where n = 1") == [(0, "new", 1)]

    async def test_a_target_whose_partitions_would_all_be_asked_for_each_row_is_not_looked_up(
        self, scene: Scene
    ) -> None:
        await scene.pg.execute("create table t (id int primary key, n int) partition by range (id)")
        for low in (0, 1000):
            await scene.pg.execute(f"create table t{low} partition of t for values from ({low}) to ({low + 1000})")
        await scene.pg.execute("insert into t select i, 0 from generate_series(0, 1998) i; analyze t")

        async with merging(scene) as conn, told(conn) as statements:
            await stage(conn, (1999, 1))
            await move_stage(conn, MOVE, source="f")

        assert not parted(statements)
        assert await scene.rows("select id, n from t where n = 1") == [(1999, 1)]

    @pytest.mark.parametrize("kind", ["text", "money"])
    async def test_keys_that_no_operator_compares_go_the_way_of_on_conflict(self, scene: Scene, kind: str) -> None:
        await scene.pg.execute(f"create table t (id {kind} primary key, n int)")

        async with merging(scene, id_type="bigint") as conn:
            await stage(conn, (1, 1))
            await move_stage(conn, MOVE, source="f")
            await stage(conn, (2, 1), (1, 2))
            await move_stage(conn, MOVE, source="f")

        assert await scene.rows("select n from t order by id") == [(2,), (1,)]

    async def test_a_row_whose_key_a_trigger_makes_a_known_one_is_updated_also_under_another_rule(
        self, scene: Scene
    ) -> None:
        await scene.pg.execute("create table t (id text, n int, exclude using btree (n with =))")
        await scene.pg.execute("alter table t add primary key (id); insert into t values ('a', 1)")
        await scene.pg.execute(
            "create function lowered() returns trigger language plpgsql as"
            " $$begin new.id := lower(new.id); return new; end$$;"
            "create trigger lowered before insert on t for each row execute function lowered()"
        )

        async with merging(scene, id_type="text") as conn:
            await stage(conn, ("B", 2), ("A", 1))
            await move_stage(conn, MOVE, source="f")

        assert await scene.rows("select id, n from t order by id") == [("a", 1), ("b", 2)]

    async def test_a_key_that_is_told_apart_at_the_end_only_is_refused_at_once(self, scene: Scene) -> None:
        await scene.pg.execute("create table t (id int primary key deferrable, n int)")

        async with merging(scene) as conn:
            await stage(conn, (1, 1))
            with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="deferrable"):
                async with conn.transaction():
                    await move_stage(conn, MOVE, source="f")
