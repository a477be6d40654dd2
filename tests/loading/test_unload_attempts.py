"""What an unload that did not come to its end leaves behind, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from dataloader.domain.jobs import NewJob
from dataloader.workers.pipelines.registry import REGISTRY, load_all
from tests.loading.scene import Scene, message, result
from tests.loading.unloaded import ROWS, folder, hidden, inode, listed, manifest, move, one, out, stored, text
from tests.workers.harness import enqueue, eventually, finished, running_service


async def again(scene: Scene, job_id: UUID) -> asyncpg.Record:
    """Queue a job that has failed once more, and run it to its end."""
    await scene.pg.execute(
        "update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5 where job_id = $1",
        job_id,
    )
    (job,) = await scene.ended(job_id)
    return job


async def failing(scene: Scene) -> asyncpg.Record:
    """Run an unload that fails in its third part; return its row."""
    await scene.pg.execute("create view v as select id, 1 / (70 - id) as part, note from t")
    job = await scene.load(table="v", key=["id"], target=out(scene), part_rows=30)
    assert "division by zero" in message(job)
    return job


async def mended(scene: Scene) -> None:
    """Let the view of an unload that failed have all rows."""
    await scene.pg.execute("create or replace view v as select id, 0::bigint as part, note from t")


async def test_an_attempt_goes_on_behind_its_last_part(unloading: Scene) -> None:
    job = await failing(unloading)
    assert listed(unloading) == [hidden(job)]
    first, second = stored(unloading, job)[:2]
    await mended(unloading)

    job = await again(unloading, job["job_id"])

    assert result(job)["rows"] == ROWS
    assert [part["rows"] for part in manifest(unloading)["parts"]] == [30, 30, 30, 10]
    assert [int(line.partition(",")[0]) for line in text(unloading).splitlines()] == list(range(1, ROWS + 1))
    assert listed(unloading) == ["manifest.json", *(f"part-{n:05}.csv" for n in range(1, 5))]
    assert (inode(unloading, "part-00001.csv"), inode(unloading, "part-00002.csv")) == (first, second)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"half"),
        lambda path: path.write_bytes(path.read_bytes().replace(b"note 3", b"note 8")),
    ],
)
async def test_a_part_that_was_lost_or_changed_between_attempts_is_noticed(
    unloading: Scene, damage: Callable[[Path], object]
) -> None:
    job = await failing(unloading)
    damage(one(unloading, f"{hidden(job)}/part-00002*"))
    await mended(unloading)

    job = await again(unloading, job["job_id"])

    assert "part-00002.csv of an earlier attempt is gone" in message(job)
    assert listed(unloading) == [hidden(job)]


async def test_progress_has_a_total_from_the_first_part_on(unloading: Scene) -> None:
    await unloading.pg.execute("analyze t")

    job = await failing(unloading)

    progress = json.loads(job["progress"])
    assert (progress["done"], progress["total"]) == (60, ROWS)


async def test_a_canceled_unload_ends_in_the_middle_of_a_part_and_leaves_no_manifest(unloading: Scene) -> None:
    query = "select generate_series(1, 100000000) as n, repeat('x', 1000) as text"
    load_all()
    async with running_service(unloading.settings, REGISTRY):
        args = {"query": query, "target": out(unloading)}
        (job_id,) = await enqueue(unloading.pg, unloading.settings, NewJob(unloading.task, unloading.task, args))
        await eventually(lambda: _is_growing(unloading))
        await unloading.pg.fetch("select * from dl_cancel($1)", job_id)
        (job,) = await finished(unloading.pg, [job_id], within_s=unloading.settings.dl_cancel_grace_sec)

    assert (job["status"], listed(unloading)) == ("canceled", [f".unload-{job_id}"])
    await unloading.load(target=out(unloading))
    assert listed(unloading) == ["manifest.json", "part-00001.csv"]


async def _is_growing(scene: Scene) -> bool:
    return any(path.stat().st_size > 0 for path in scene.folder.glob("out/.unload-*/part-*"))


async def test_columns_that_change_between_attempts_are_noticed(unloading: Scene) -> None:
    job = await failing(unloading)
    await unloading.pg.execute("drop view v; create view v as select id, note from t")

    job = await again(unloading, job["job_id"])

    assert "the columns of dataloader.public.v have changed since this unload began" in message(job)


async def test_leftovers_of_ended_jobs_are_removed(unloading: Scene) -> None:
    await failing(unloading)
    unknown = folder(unloading, f"out/.unload-{uuid4()}").name
    unloading.write(f"out/{unknown}/manifest.json", '{"parts": [{"name": "part-00009.csv"}, {"name": "../kept"}]}')
    unloading.write("out/part-00009.csv", "")
    unloading.write("kept", "")

    await unloading.load(target=out(unloading), overwrite=True)

    assert listed(unloading) == ["manifest.json", manifest(unloading)["parts"][0]["name"]]
    assert one(unloading, "../kept").exists()


async def test_a_publication_that_was_cut_short_is_ended(unloading: Scene) -> None:
    """What a worker leaves that dies while it puts parts in place."""
    job = await unloading.load(target=out(unloading), part_rows=60)
    folder(unloading, f"out/{hidden(job)}")
    state = json.loads(job["checkpoint"])
    move(unloading, "manifest.json", f"{hidden(job)}/manifest.json")
    move(unloading, "part-00002.csv", f"{hidden(job)}/{state['parts'][1][1]}")

    job = await again(unloading, job["job_id"])

    assert result(job)["parts"] == 2
    assert manifest(unloading)["rows"] == ROWS
    assert listed(unloading) == ["manifest.json", "part-00001.csv", "part-00002.csv"]


async def test_two_jobs_do_not_write_to_one_directory_at_a_time(unloading: Scene) -> None:
    await failing(unloading)
    await unloading.pg.execute(
        "update dl_jobs set status = 'queued', finished_at = null, ready = false, max_attempts = 5,"
        " available_at = now() + interval '1 hour'"
    )

    job = await unloading.put_off(target=out(unloading), overwrite=True)

    assert job["attempt"] == 0
    (reason,) = await unloading.rows("select data::text from dl_job_events order by event_id desc limit 1")
    assert f"is writing to {out(unloading)}" in reason[0]
