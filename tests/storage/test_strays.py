"""What a frozen worker left on the server is ended, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from dataloader.domain.jobs import Lease
from dataloader.domain.outcomes import SettleKind
from dataloader.storage.db import Connection
from dataloader.storage.queries import run_name, run_prefix
from tests.conftest import _connect, _settings
from tests.storage.scene import (
    QUEUE,
    RECOVERY,
    SCHEMA,
    expire,
    look,
    reap,
    running,
    settle,
    until,
)


class TestStrays:
    """A worker frozen in the middle of a chunk keeps its locks; its backend is ended."""

    async def chunk(self, session: Connection, lease: Lease) -> None:
        await session.execute(
            f"begin; set local application_name = '{run_name(lease.job_id, lease.epoch, schema=SCHEMA)}'"
        )

    async def is_alive(self, pg: Connection, session: Connection) -> bool:
        return bool(await pg.fetchval("select 1 from pg_stat_activity where pid = $1", session.get_server_pid()))

    async def ended(self, pg: Connection) -> int:
        return await RECOVERY.terminate_strays(pg, await RECOVERY.server_time(pg))

    async def test_a_chunk_of_a_run_that_lost_its_lease_is_ended(self, pg: Connection, other: Connection) -> None:
        lease = await running(pg)
        await self.chunk(other, lease)
        await expire(pg, lease.job_id)
        await reap(pg)

        assert await self.ended(pg) == 1
        await until(lambda: negated(self.is_alive(pg, other)))

    async def test_a_chunk_frozen_between_fence_and_commit_is_ended_so_that_the_reaper_can_have_the_row(
        self, pg: Connection, other: Connection
    ) -> None:
        lease = await running(pg)
        await expire(pg, lease.job_id)
        await self.chunk(other, lease)
        await QUEUE.checkpoint(other, lease, state={"x": 1}, progress=None)
        assert await reap(pg) == []

        assert await self.ended(pg) == 1

        assert len(await until(lambda: reap(pg))) == 1
        assert await look(pg, lease.job_id, "checkpoint") == (None,)

    async def test_a_chunk_of_a_live_run_is_left_alone(self, pg: Connection, other: Connection) -> None:
        lease = await running(pg)
        await self.chunk(other, lease)

        assert await self.ended(pg) == 0
        assert await self.is_alive(pg, other)

    async def test_a_chunk_that_began_after_the_question_is_left_alone(self, pg: Connection, other: Connection) -> None:
        lease = await running(pg)
        asked_at = await RECOVERY.server_time(pg)
        await settle(pg, lease, SettleKind.SUCCEEDED)
        await self.chunk(other, lease)

        assert await RECOVERY.terminate_strays(pg, asked_at) == 0

    async def test_sessions_of_others_are_left_alone_whatever_they_call_themselves(
        self, pg: Connection, other: Connection
    ) -> None:
        prefix = run_prefix(SCHEMA)
        lease = await running(pg)
        for name in (
            "dl/not-a-job/1",
            f"{prefix}{'-' * 36}/1",
            f"{prefix}{'a' * 36}/1",
            f"{prefix}{uuid4()}/{'9' * 10}",
            f"{prefix}{uuid4()}/1/1",
            prefix,
            "dl/%",
        ):
            await other.execute(f"begin; set local application_name = '{name}'")
            assert await self.ended(pg) == 0
            await other.execute("rollback")
        assert await look(pg, lease.job_id, "status") == ("running",)

    @pytest.mark.parametrize("where", ["another database", "another schema"])
    async def test_a_copy_of_the_service_is_left_alone(
        self, pg: Connection, other: Connection, server: dict[str, object], where: str
    ) -> None:
        lease = await running(pg)
        name = run_name(lease.job_id, lease.epoch, schema=SCHEMA if where == "another database" else "copy")
        session = other if where == "another schema" else await _connect(_settings(server, "postgres"))
        await session.execute(f"begin; set local application_name = '{name}'")
        await expire(pg, lease.job_id)

        assert await RECOVERY.cancel_statements(pg, [lease]) == 0
        assert await self.ended(pg) == 0
        assert await session.fetchval("select 1") == 1
        session.terminate()

    async def test_the_statement_of_a_run_is_canceled_without_ending_its_session(
        self, pg: Connection, other: Connection
    ) -> None:
        lease = await running(pg)
        await self.chunk(other, lease)
        async with asyncio.TaskGroup() as group:
            statement = group.create_task(swallow(other.execute("select pg_sleep(60)")))
            await until(
                lambda: pg.fetchval(
                    "select 1 from pg_stat_activity"
                    " where datname = current_database() and query = 'select pg_sleep(60)'"
                )
            )
            assert await RECOVERY.cancel_statements(pg, [lease]) == 1

        assert statement.result() == "QueryCanceledError"
        assert await self.is_alive(pg, other)


async def negated(answer: Any) -> bool:
    return not await answer


async def swallow(statement: Any) -> str:
    """Return the name of the error a statement ends with."""
    try:
        await statement
    except Exception as error:  # noqa: BLE001 - the name is what the test is about
        return type(error).__name__
    return "none"
