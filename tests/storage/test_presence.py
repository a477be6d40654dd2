"""What worker processes say of themselves, the catalogue of tasks, and task state."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from dataloader.storage.db import Connection
from dataloader.storage.repositories.presence import Presence, TaskEntry
from tests.storage.conftest import Connect
from tests.storage.scene import PRESENCE, publish

ME = Presence(uuid4(), "host", 1, "0.1.0", {"q": 4}, ("t", "u"), {"q": ("t",)})


async def test_a_process_is_known_while_it_beats_and_gone_when_it_leaves(pg: Connection) -> None:
    await PRESENCE.beat(pg, ME, stopping=False, ttl_s=30.0)
    first = await pg.fetchrow("select * from dl_workers")
    await PRESENCE.beat(pg, ME, stopping=True, ttl_s=30.0)
    second = await pg.fetchrow("select * from dl_workers")

    assert first is not None
    assert second is not None
    assert (first["queues"], first["tasks"], first["stopping"], second["stopping"]) == (
        '{"q": 4}',
        ["t", "u"],
        False,
        True,
    )
    assert first["takes"] == '{"q": ["t"]}'
    assert first["started_at"] == second["started_at"]
    assert first["expires_at"] < second["expires_at"]
    await PRESENCE.leave(pg, ME.worker_id)
    assert await pg.fetch("select * from dl_workers") == []


async def test_processes_that_never_left_are_removed_an_hour_later(pg: Connection) -> None:
    await PRESENCE.beat(pg, ME, stopping=False, ttl_s=-3_599.0)
    await PRESENCE.beat(pg, Presence(uuid4(), "dead", 2, "0", {}, (), {}), stopping=False, ttl_s=-3_601.0)

    await PRESENCE.beat(pg, Presence(uuid4(), "new", 3, "0", {}, (), {}), stopping=False, ttl_s=30.0)

    assert [row["host"] for row in await pg.fetch("select host from dl_workers order by expires_at")] == ["host", "new"]


async def test_a_task_is_published_once_and_updated_where_it_changed(pg: Connection) -> None:
    await publish(pg, "a", max_attempts=3)
    await publish(pg, "b")
    before = {row["task"]: row for row in await pg.fetch("select xmin, * from dl_tasks")}

    await PRESENCE.publish(
        pg,
        [
            TaskEntry("b", "q", "changed", {"type": "object"}, {}, "block"),
            TaskEntry("a", None, "doc", None, {"max_attempts": 3}, "skip"),
        ],
    )

    after = {row["task"]: row for row in await pg.fetch("select xmin, * from dl_tasks")}
    assert after["a"] == before["a"]
    assert (after["b"]["queue"], after["b"]["doc"], after["b"]["on_partition_failure"]) == ("q", "changed", "block")
    assert after["b"]["updated_at"] > before["b"]["updated_at"]


async def test_processes_that_publish_at_once_do_not_deadlock(pg: Connection, connect_more: Connect) -> None:
    names = [f"t{n}" for n in range(30)]
    sessions = [await connect_more() for _ in range(4)]

    async def publish_all(session: Connection, version: str) -> None:
        entries = [TaskEntry(name, None, version, None, {}, "skip") for name in names]
        for _ in range(5):
            await PRESENCE.publish(session, entries[:: -1 if version == "0" else 1])

    await asyncio.gather(*(publish_all(session, str(n)) for n, session in enumerate(sessions)))

    assert await pg.fetchval("select count(*) from dl_tasks") == len(names)


async def test_state_is_committed_with_the_transaction_that_set_it(pg: Connection) -> None:
    job_id = uuid4()
    assert await PRESENCE.load_state(pg, "t", "mark") is None
    await PRESENCE.save_state(pg, "t", "mark", {"day": "2025-04-01"}, job_id=job_id)
    transaction = pg.transaction()
    await transaction.start()
    await PRESENCE.save_state(pg, "t", "mark", [1, None, "x"], job_id=job_id)
    assert await PRESENCE.load_state(pg, "t", "mark") == [1, None, "x"]
    await transaction.rollback()

    assert await PRESENCE.load_state(pg, "t", "mark") == {"day": "2025-04-01"}
    assert await PRESENCE.load_state(pg, "other", "mark") is None
