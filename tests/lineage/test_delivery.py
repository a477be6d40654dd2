"""Events reach a file or a receiver, in order, and only of what was committed, whatever the receiver does."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from dataloader.config import Settings
from dataloader.domain import lineage
from dataloader.domain.lineage import Transition
from dataloader.storage.db import Connection, connect
from dataloader.storage.queries import load_queries
from dataloader.workers.lineage import Timing
from dataloader.workers.pipelines.registry import Registry
from tests.lineage.delivery import run, telling_of_runs
from tests.lineage.receiver import HANG, receiving
from tests.lineage.rules import Event, check_runs
from tests.workers.harness import eventually, running_service

SQL = load_queries("public")
HELD = "select held_until > clock_timestamp() from dl_lineage"

Make = Callable[..., Settings]


def each(events: list[Event]) -> Counter[tuple[str, str]]:
    """Return how often each event of each run was told."""
    return Counter((event["run"]["runId"], event["eventType"]) for event in events)


async def test_events_go_to_a_file_line_by_line(make_settings: Make, pg: Connection, tmp_path: Path) -> None:
    out = tmp_path / "told events.jsonl"

    def told() -> list[Event]:
        return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []

    async with telling_of_runs(make_settings(dl_lineage_url=str(out))) as teller:
        await run(pg, 2)
        await teller.until(lambda: len(told()) >= 4)

    check_runs(told())
    assert set(each(told()).values()) == {1}


async def test_the_receiver_is_shown_the_token_and_nobody_else(
    make_settings: Make, pg: Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    async with receiving(500, 400) as receiver:
        settings = make_settings(dl_lineage_url=f"{receiver.url}?who=s3cret", dl_lineage_token="t0ken")
        async with telling_of_runs(settings) as teller:
            await run(pg)
            await teller.until(lambda: receiver.ends == 1)

    assert receiver.tokens == {"Bearer t0ken"}
    printed = "".join(capfd.readouterr())
    assert "does not take events" in printed
    assert "refused an event" in printed
    assert "t0ken" not in printed
    assert "s3cret" not in printed


async def test_an_event_waits_for_a_receiver_that_does_not_take_it(make_settings: Make, pg: Connection) -> None:
    async with receiving(307, 404, 500, HANG) as receiver:
        settings = make_settings(dl_lineage_url=receiver.url)
        async with telling_of_runs(settings, Timing(period_s=0.001, send_s=0.1)) as teller:
            await run(pg, 2)
            await teller.until(lambda: receiver.ends == 2)
            assert 'dataloader_lineage_events_total{result="failed"} 4.0' in teller.metrics()

    check_runs(receiver.events)
    assert set(each(receiver.events).values()) == {1}
    assert (receiver.asked, receiver.elsewhere) == (4 + 4, 0)


async def test_an_event_that_is_refused_is_passed_over(make_settings: Make, pg: Connection) -> None:
    async with (
        receiving(400, 413, 422) as receiver,
        telling_of_runs(make_settings(dl_lineage_url=receiver.url)) as teller,
    ):
        await run(pg, 2)
        await teller.until(lambda: receiver.ends == 1)
        assert 'dataloader_lineage_events_total{result="refused"} 3.0' in teller.metrics()

    assert [event["eventType"] for event in receiver.events] == ["COMPLETE"]


async def test_an_event_that_cannot_be_put_together_is_passed_over(
    make_settings: Make, pg: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(transition: Transition, **given: Any) -> dict[str, object] | None:
        if transition.kind == "claimed":
            raise KeyError("unforeseen")
        return lineage.build(transition, **given)

    async with receiving() as receiver, telling_of_runs(make_settings(dl_lineage_url=receiver.url)) as teller:
        monkeypatch.setattr("dataloader.workers.lineage.build", build)
        await run(pg, 2)
        await teller.until(lambda: receiver.ends == 2)
        assert 'dataloader_lineage_events_total{result="refused"} 2.0' in teller.metrics()

    assert [event["eventType"] for event in receiver.events] == ["COMPLETE"] * 2


async def test_what_one_process_could_not_tell_the_next_one_tells(make_settings: Make, pg: Connection) -> None:
    async with receiving() as away:
        pass
    settings = make_settings(dl_lineage_url=away.url)
    async with telling_of_runs(settings) as teller:
        await run(pg, 2)
        await teller.until(lambda: 'result="failed"' in teller.metrics())

    port = int(away.url.split(":")[2].partition("/")[0])
    async with receiving(port=port) as receiver, telling_of_runs(settings) as teller:
        await teller.until(lambda: receiver.ends == 2)

    check_runs(receiver.events)
    assert set(each(receiver.events).values()) == {1}


async def test_a_process_that_stops_lets_the_next_one_go_on_at_once(make_settings: Make, pg: Connection) -> None:
    async with telling_of_runs(make_settings(dl_lineage_url="/unused")):
        assert await pg.fetchval(HELD)

    assert not await pg.fetchval(HELD)


async def test_of_two_processes_that_look_at_once_one_tells_each_event(make_settings: Make, pg: Connection) -> None:
    async with receiving(delay_s=0.002) as receiver:

        def has_told(ends: int) -> bool:
            return receiver.ends == ends

        settings = make_settings(dl_lineage_url=receiver.url)
        async with telling_of_runs(settings) as one, telling_of_runs(settings) as other:
            for ends in (10, 20, 30):
                await run(pg, 10)
                async with asyncio.TaskGroup() as group:
                    for teller in (one, other):
                        group.create_task(teller.until(partial(has_told, ends)))
            counted = ['events_total{result="sent"}' in teller.metrics() for teller in (one, other)]

    check_runs(receiver.events)
    assert set(each(receiver.events).values()) == {1}
    assert counted == [True, False]


async def test_after_a_crash_another_process_tells_the_rest_and_repeats_to_the_letter(
    make_settings: Make, pg: Connection
) -> None:
    async with receiving(201, 201, HANG) as receiver:
        settings = make_settings(dl_lineage_url=receiver.url)
        async with telling_of_runs(settings) as crashing, telling_of_runs(settings) as other:
            await run(pg, 3)
            looking = asyncio.create_task(crashing.until(lambda: False))
            await receiver.is_asked(3)
            looking.cancel()
            for _ in range(3):
                await other.look()
            told = len(receiver.events)
            await pg.execute("update dl_lineage set held_until = clock_timestamp()")
            await other.until(lambda: receiver.ends == 3)

    texts = [json.dumps(event) for event in receiver.events]
    different = list(dict.fromkeys(texts))
    assert (told, len(texts), len(different)) == (2, 2 + 6, 6)
    check_runs([json.loads(text) for text in different])


async def test_a_process_that_lost_its_turn_tells_no_more(make_settings: Make, pg: Connection) -> None:
    async with receiving(201, HANG) as receiver:
        settings = make_settings(dl_lineage_url=receiver.url)
        async with telling_of_runs(settings, Timing(note_s=0)) as teller, asyncio.TaskGroup() as group:
            await run(pg, 3)
            looking = group.create_task(teller.until(lambda: receiver.asked > 1))
            await receiver.is_asked(2)
            noted = await pg.fetchval(
                "update dl_lineage set held_by = gen_random_uuid(), held_until = 'infinity' returning sent_id"
            )
            receiver.freed.set()
            await looking
            await teller.look()

    assert len(receiver.events) == 2
    assert await pg.fetchval("select sent_id from dl_lineage") == noted


async def test_of_two_that_ask_at_once_one_gets_the_turn_until_it_is_given_back_or_over(
    make_settings: Make, pg: Connection
) -> None:
    ours, theirs = uuid4(), uuid4()
    other = await connect(make_settings(), purpose="test")

    async def take(connection: Connection, holder: UUID, hold_s: float) -> bool:
        return await connection.fetchrow(SQL.lineage_take, holder, hold_s) is not None

    try:
        both = await asyncio.gather(take(pg, ours, 60.0), take(other, theirs, 60.0))
        assert sorted(both) == [False, True]
        first, second = (ours, theirs) if both[0] else (theirs, ours)
        assert await pg.fetchval(SQL.lineage_sent, second, 1, 60.0) is None
        await pg.execute(SQL.lineage_freed, second)
        assert not await take(other, second, 60.0)
        await pg.execute(SQL.lineage_freed, first)
        assert await take(other, second, 0.0)
        assert await take(pg, first, 60.0)
    finally:
        await other.close()


async def test_the_mark_does_not_pass_an_event_that_is_not_committed_yet(make_settings: Make, pg: Connection) -> None:
    ours = uuid4()
    event = "insert into dl_job_events (job_id, kind, status, epoch, attempt) values ($1, 'x', 'x', 0, 0)"
    other = await connect(make_settings(), purpose="test")

    async def moved() -> int:
        await pg.execute("update dl_lineage set mark_at = mark_at - interval '2 seconds'")
        row = await pg.fetchrow(SQL.lineage_take, ours, 60.0)
        assert row is not None
        return int(row["safe_id"])

    async def passed() -> bool:
        return await moved() == int(await pg.fetchval("select max(event_id) from dl_job_events"))

    try:
        await pg.fetchrow(SQL.lineage_take, ours, 60.0)
        async with other.transaction():
            await other.execute(event, uuid4())
            await pg.execute(event, uuid4())
            safe = [await moved() for _ in range(3)]
        await eventually(passed)
    finally:
        await other.close()

    assert max(safe) == 0


async def test_without_an_address_nothing_is_asked_of_the_database(make_settings: Make, pg: Connection) -> None:
    async with running_service(make_settings(), Registry()):
        session = "application_name = 'dataloader lineage' and datname = current_database()"
        assert not await pg.fetchval(f"select exists (select from pg_stat_activity where {session})")

    assert not await pg.fetchval("select exists (select from dl_lineage)")
