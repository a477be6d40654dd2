"""The `demo` command."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

from typer import Option, Typer

from dataloader.cli.demo.stage import Stage, open_stage
from dataloader.cli.demo.story import NEXT_STEPS, Story, open_source
from dataloader.cli.options import command
from dataloader.cli.screen import out
from dataloader.exceptions import DataloaderError

_LIVE_URL = "https://www.cbr.ru"


def register_demo(app: Typer) -> None:
    """Enter the command."""
    command(app, "demo", examples=("dataloader demo", "dataloader demo --live"))(demo)


async def demo(
    *, live: Annotated[bool, Option("--live", help="Ask the Bank of Russia instead of the bundled source.")] = False
) -> None:
    """Load a month of exchange rates, kill the worker in the middle, and see the load finish.

    Everything runs on this machine, on a PostgreSQL of its own in a temporary folder that is removed in the end.
    """
    console = out()
    started_s = time.monotonic()
    console.print("[bold]Dataloader demo[/]: PostgreSQL, an API process and a worker process start ...")
    with tempfile.TemporaryDirectory(prefix="dataloader-demo-", ignore_cleanup_errors=True) as folder:
        async with (
            open_source(live=live) as source,
            open_stage(Path(folder), source_url=source.base_url if source else _LIVE_URL) as stage,
        ):
            console.print(f"  up after {time.monotonic() - started_s:.1f} s")
            await _play(Story(stage, source, console), stage)
    console.print(f"\n[green]Done[/] in {time.monotonic() - started_s:.0f} s. Where to go next:")
    for step in NEXT_STEPS:
        console.print(f"  {step}", markup=False)


async def _play(story: Story, stage: Stage) -> None:
    """Tell the story; one that gets stuck ends with what the worker said last."""
    try:
        await story.play()
    except TimeoutError:
        raise DataloaderError(f"the demo got stuck; the worker's log ends with:\n{stage.log_of('worker')}") from None
