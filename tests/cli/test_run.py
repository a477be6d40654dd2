"""`dataloader run`: a job of this process's own, recorded like any other."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from dataloader.config import Settings
from dataloader.storage.db import Connection
from tests.cli.shell import environment, run, running


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """A folder with a file."""
    (tmp_path / "prices.csv").write_text("Series,Settle\nNKU26,67005.5\nNKZ26,\n")
    return tmp_path


async def test_it_loads_a_file_of_the_current_directory_and_ends_with_0(
    prices: Path, settings: Settings, pg: Connection
) -> None:
    ended = await run(prices, "run", "load.file", "source=prices.csv", "table=t", env=environment(settings))

    assert (ended.code, ended.err) == (0, "")
    assert "succeeded" in ended.out
    assert '"rows": 2' in ended.out
    assert await pg.fetchval("select count(*) from t") == 2
    job = await pg.fetchrow("select status, created_by, queue from dl_jobs")
    assert job is not None
    assert (job["status"], job["created_by"], job["queue"].startswith("run-")) == ("succeeded", "cli:run", True)


async def test_arguments_may_be_set_one_by_one_and_the_outcome_be_json(prices: Path, settings: Settings) -> None:
    command = ("run", "load.file", "--set", "source=prices.csv", "--set", "table=t", "--json")

    ended = await run(prices, *command, env=environment(settings))

    assert json.loads(ended.out)["result"]["rows"] == 2
    first_words = ended.err.split()[:1]
    assert first_words in (["queued"], ["running"], []), "the way there is told apart; a quick job has none"


async def test_a_job_that_fails_ends_with_1_and_says_why(prices: Path, settings: Settings) -> None:
    ended = await run(prices, "run", "load.file", "source=none.csv", "table=t", env=environment(settings))

    assert ended.code == 1
    assert "none.csv does not exist" in ended.out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("load.file", "table=t"), "args.source: Field required"),
        (("load.fil",), "Unknown task 'load.fil'; known are"),
        ((), "name a task to run, or a job with --resume"),
        (("noop", "--resume", "01a20c71-79d2-7d3b-bfa3-e301628db985"), "name a task to run, or a job with --resume"),
        (("--resume", "01a20c71-79d2-7d3b-bfa3-e301628db985"), "no job"),
    ],
)
async def test_what_cannot_be_run_is_refused_with_a_reason(
    tmp_path: Path, settings: Settings, pg: Connection, arguments: tuple[str, ...], reason: str
) -> None:
    ended = await run(tmp_path, "run", *arguments, env=environment(settings))

    assert ended.code == 1
    assert reason.lower() in ended.err.lower()
    assert await pg.fetchval("select count(*) from dl_jobs") == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_run_that_is_stopped_can_go_on_from_its_checkpoint(
    tmp_path: Path, settings: Settings, pg: Connection, number: signal.Signals
) -> None:
    async with running(tmp_path, "run", "noop", "chunks=100", "sleep_s=0.1", env=environment(settings)) as process:
        await process.printed("/100")
        process.signal(number)
        ended = await process.ended()
    job_id, before = await pg.fetchrow("select job_id, (checkpoint->>'chunk')::int from dl_jobs") or (None, 0)
    assert (ended.code, ended.err) == (130, "")
    assert f"dataloader run --resume {job_id}" in ended.out
    assert await pg.fetchval("select status from dl_jobs") == "queued"
    await pg.execute("""update dl_jobs set args = '{"chunks": 100, "sleep_s": 0.001}'""")

    again = await run(tmp_path, "run", "--resume", str(job_id), env=environment(settings))

    assert again.code == 0
    assert "100/100" in again.out
    assert before >= 1
    assert await pg.fetchval("select attempt from dl_jobs") == 1


async def test_another_worker_leaves_the_job_to_the_process_that_began_it(tmp_path: Path, settings: Settings) -> None:
    async with running(tmp_path, "worker", env=environment(settings)) as worker:
        await worker.logged("workers started")
        ended = await run(tmp_path, "run", "noop", env=environment(settings))

        worker.signal()
        last = await worker.ended()

    assert (ended.code, last.code) == (0, 0)
    assert "job settled" not in last.err


async def test_it_unloads_into_a_directory_of_the_current_one(
    tmp_path: Path, settings: Settings, pg: Connection
) -> None:
    await pg.execute("create table t as select 1 as id")

    ended = await run(tmp_path, "run", "unload.table", "table=t", "target=out", env=environment(settings))

    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "out" / "part-00001.csv").read_text() == "id\n1\n"
