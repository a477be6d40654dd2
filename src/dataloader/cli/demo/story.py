"""What the demo does and shows: trigger, watch, kill, watch it go on, count."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import date
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from dataloader.api.v1.schemas import JobStatusView
from dataloader.cli.demo.stage import LEASE_S, Stage
from dataloader.cli.screen import table
from dataloader.domain.jobs import JobStatus
from dataloader.exceptions import DataloaderError
from dataloader.storage.db import connect
from dataloader.testing.cbr_source import CbrStub

FIRST_DAY, LAST_DAY = date(2025, 4, 1), date(2025, 4, 30)
KILL_AT = 12
TIMEOUT_S = 60.0
_PERIOD_S = 0.05


class Story:
    """One performance.

    Args:
        stage: The running service.
        source: The bundled source, None when the real one is asked.
        console: Where it is told.
    """

    def __init__(self, stage: Stage, source: CbrStub | None, console: Console) -> None:
        self._stage = stage
        self._source = source
        self._console = console
        self._asked_before_kill: list[str] = []

    async def play(self) -> None:
        """Tell it from the trigger to the rows.

        Raises:
            DataloaderError: The load did not end as promised.
        """
        job_id = await self._trigger()
        with self._bar() as bar:
            task = bar.add_task("loading", total=(LAST_DAY - FIRST_DAY).days + 1, state="queued")
            at_kill = await self._watch(bar, task, job_id, until_done=KILL_AT)
            self._kill(at_kill)
            await self._watch_again(bar, task, job_id)
            final = await self._watch(bar, task, job_id, until_done=None)
        if final.status is not JobStatus.SUCCEEDED:
            raise DataloaderError(f"the job ended as {final.status}: {final.error}")
        await self._show_events(job_id)
        await self._show_rows(at_kill)

    async def _trigger(self) -> UUID:
        args = {"start": FIRST_DAY.isoformat(), "end": LAST_DAY.isoformat()}
        key = f"demo-{FIRST_DAY}-{LAST_DAY}"
        first = await self._stage.client.trigger("cbr.daily_rates", args, idempotency_key=key, lock_key="cbr_rates")
        again = await self._stage.client.trigger("cbr.daily_rates", args, idempotency_key=key, lock_key="cbr_rates")
        self._say(f"POST /api/v1/jobs/trigger  cbr.daily_rates {FIRST_DAY} to {LAST_DAY}")
        self._say(f"  job {first.job_id}")
        same = "the same job" if again.job_id == first.job_id and not again.created else "ANOTHER JOB"
        self._say(f"  the same request again, with the same idempotency key: {same}")
        return first.job_id

    async def _watch(self, bar: Progress, task: TaskID, job_id: UUID, *, until_done: int | None) -> JobStatusView:
        """Follow the job until so many days are done, or until its end."""
        async with asyncio.timeout(TIMEOUT_S * (10 if self._source is None else 1)):
            while True:
                view = await self._stage.client.status(job_id)
                done = (view.progress and view.progress.done) or 0
                bar.update(task, completed=done, state=view.status.value)
                if view.status.is_finished or (until_done is not None and done >= until_done):
                    return view
                await asyncio.sleep(_PERIOD_S)

    def _kill(self, view: JobStatusView) -> None:
        self._asked_before_kill = list(self._source.asked) if self._source else []
        self._stage.kill("worker")
        done = int((view.progress and view.progress.done) or 0)
        self._say(f"[red]kill -9[/] of the worker process after {done} committed days, in the middle of the next")

    async def _watch_again(self, bar: Progress, task: TaskID, job_id: UUID) -> None:
        """Start a worker again; its reaper finds the expired lease, and the job goes on."""
        self._stage.start("worker")
        self._say(f"a new worker starts; the lease ({LEASE_S:g} s here, 60 s by default) must expire first")
        started_s = time.monotonic()
        async with asyncio.timeout(TIMEOUT_S):
            while [event.kind async for event in self._stage.client.events(job_id)].count("claimed") < 2:
                bar.update(task, state="waiting for the lease to expire")
                self._stage.check_alive()
                await asyncio.sleep(_PERIOD_S)
        self._say(f"claimed again after {time.monotonic() - started_s:.1f} s, going on from the checkpoint")

    async def _show_events(self, job_id: UUID) -> None:
        grid = table("time", "event", "attempt", "epoch", "facts")
        async for event in self._stage.client.events(job_id):
            facts = {name: value for name, value in event.data.items() if name in {"checkpoint", "losses", "done"}}
            text = ", ".join(f"{name} {json.dumps(value)}" for name, value in facts.items())
            grid.add_row(f"{event.at:%H:%M:%S.%f}"[:-3], event.kind, str(event.attempt), str(event.epoch), text)
        self._say("\n[bold]What the audit log says[/]")
        self._console.print(grid)

    async def _show_rows(self, at_kill: JobStatusView) -> None:
        connection = await connect(self._stage.settings, purpose="demo")
        try:
            rows = await connection.fetch(
                "select * from cbr_rates where char_code in ('USD', 'EUR') order by 1 desc, 2 limit 6"
            )
            total, days = await connection.fetchrow("select count(*), count(distinct rate_date) from cbr_rates") or (
                0,
                0,
            )
            versions = await connection.fetchval(
                "select count(*) from (select 1 from cbr_rates group by rate_date, char_code) k"
            )
        finally:
            await connection.close()
        grid = table("rate_date", "char_code", "nominal", "name", "value", "unit_rate")
        for row in rows:
            grid.add_row(
                *(str(row[name]) for name in ("rate_date", "char_code", "nominal", "name", "value", "unit_rate"))
            )
        self._say(f"\n[bold]Loaded into cbr_rates[/]: {total} rows on {days} days, {total - versions} duplicates")
        self._console.print(grid)
        self._check_source(at_kill)

    def _check_source(self, at_kill: JobStatusView) -> None:
        """Count what the source was asked for: only the chunk that was cut may have been asked twice."""
        if self._source is None:
            return
        asked = Counter(self._source.asked)
        twice = [path for path, count in asked.items() if count > 1]
        done = int((at_kill.progress and at_kill.progress.done) or 0)
        self._say(
            f"The source was asked for {len(asked)} days; {len(twice)} of them twice (the one that was cut), "
            f"none of the {done} that were committed."
        )
        if len(twice) > 2 or set(self._asked_before_kill[:done]) & set(twice):
            raise DataloaderError(f"documents of committed days were fetched again: {sorted(twice)}")

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("  "),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TextColumn("days  {task.fields[state]}"),
            TimeElapsedColumn(),
            console=self._console,
        )

    def _say(self, text: str) -> None:
        self._console.print(text)


def open_source(*, live: bool) -> AbstractAsyncContextManager[CbrStub | None]:
    """Return the bundled source, a little slow so that the load can be watched, or nothing for the real one."""
    return nullcontext() if live else CbrStub(delay_s=0.15)


NEXT_STEPS: Sequence[str] = (
    "dataloader up                                         everything on this machine, with its own PostgreSQL",
    "dataloader trigger cbr.daily_rates date=2025-04-01 --watch",
    "http://127.0.0.1:8081/docs                            the HTTP API",
    "docs/pipelines.md                                     write a pipeline of your own",
)
