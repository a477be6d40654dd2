"""Merges into one table at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from dataloader.connectors.identifiers import TableName
from dataloader.connectors.loading.staging import STAGE, create_stage, move_good_rows, move_stage, straight
from dataloader.storage.db import Connection
from tests.conftest import direct_dsn
from tests.loading.scene import Scene
from tests.workers.harness import eventually

MOVE = straight(TableName("public", "t"), ("id", "n"), key=("id",))
WAITING = """
select count(*) from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0
"""


@asynccontextmanager
async def merging(scene: Scene) -> AsyncIterator[Connection]:
    """Open a transaction with a stage; commit it at the end."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(direct_dsn(scene.settings))
    try:
        async with connection.transaction():
            await create_stage(connection, {"id": "int", "n": "int"})
            yield connection
    finally:
        await connection.close()


async def move(conn: Connection, *ids: int, reject: bool = True) -> None:
    """Merge rows of these keys."""
    await conn.execute(f"truncate {STAGE.sql} restart identity")
    await conn.copy_records_to_table(
        STAGE.name, schema_name=STAGE.schema, records=[(one, 0) for one in ids], columns=("id", "n")
    )
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
