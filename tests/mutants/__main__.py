"""Breaks the code on purpose and shows that the tests notice: `python -m tests.mutants [--trust] [part of a name ...]`.

Exits with the number of mutants that were not caught.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from tests.mutants.mutant import Mutant
from tests.mutants.table import MUTANTS
from tests.mutants.workshop import Result, Verdict, Workshop, opened


def main(arguments: Sequence[str]) -> int:
    """Try mutants; return how many were not caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Break the code, see the tests fail.")
    parser.add_argument("names", nargs="*", help="parts of names; all mutants when there are none")
    parser.add_argument("--trust", action="store_true", help="do not run the tests on the unbroken code first")
    parser.add_argument("--why", action="store_true", help="also show what the tests said")
    parser.add_argument("--list", action="store_true", help="only say which mutants there are")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many to try at a time")
    options = parser.parse_args(arguments)
    mutants = [one for one in MUTANTS if not options.names or any(part in one.name for part in options.names)]
    console = Console()
    if options.list:
        for mutant in mutants:
            console.print(f"[bold]{mutant.name}[/]: {mutant.harm}", highlight=False)
        return 0
    return asyncio.run(_try_all(console, mutants, options))


async def _try_all(console: Console, mutants: Sequence[Mutant], options: argparse.Namespace) -> int:
    jobs: int = options.jobs
    began_s = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with opened() as workshop:
        with Progress(*columns, console=console) as progress:
            if not options.trust and not await _is_sound(workshop, mutants, progress, jobs=jobs):
                return len(mutants)
            results = await _results(workshop, mutants, progress, jobs=jobs)
    console.print(_table(results, why=options.why))
    missed = sum(result.verdict is not Verdict.CAUGHT for result in results.values())
    console.print(f"{len(results) - missed} of {len(results)} caught in {time.monotonic() - began_s:.0f} s")
    return missed


async def _is_sound(workshop: Workshop, mutants: Sequence[Mutant], progress: Progress, *, jobs: int) -> bool:
    """Return whether every selection passes on the code as it is; say which does not."""
    selections = list(dict.fromkeys(mutant.tests for mutant in mutants))
    bar = progress.add_task("unbroken", total=len(selections))
    turn = asyncio.Semaphore(jobs)

    async def run(selection: Sequence[str]) -> bool:
        async with turn:
            result = await workshop.run_unbroken(selection)
        progress.advance(bar)
        sound = result.verdict is Verdict.SURVIVED
        if not sound:
            progress.console.print(f"[red]{' '.join(selection)} fails on unbroken code:[/] {result.by}")
        return sound

    return all(await asyncio.gather(*(run(selection) for selection in selections)))


async def _results(
    workshop: Workshop, mutants: Sequence[Mutant], progress: Progress, *, jobs: int
) -> dict[Mutant, Result]:
    bar = progress.add_task("mutants", total=len(mutants))
    turn = asyncio.Semaphore(jobs)

    async def run(mutant: Mutant) -> Result:
        async with turn:
            result = await workshop.try_mutant(mutant)
        progress.advance(bar)
        if result.verdict is not Verdict.CAUGHT:
            progress.console.print(f"[red]{result.verdict}[/] {mutant.name}: {result.by}", highlight=False)
        return result

    return dict(zip(mutants, await asyncio.gather(*map(run, mutants)), strict=True))


def _table(results: dict[Mutant, Result], *, why: bool) -> Table:
    table = Table("mutant", "verdict", Column("found by", overflow="fold"), Column("s", justify="right"))
    for mutant, result in results.items():
        color = "green" if result.verdict is Verdict.CAUGHT else "red"
        by = Text(next(iter(result.by.rpartition("/")[2].splitlines()), ""))
        if why:
            by.append(f"\n{result.said}", style="dim")
        table.add_row(mutant.name, f"[{color}]{result.verdict}[/]", by, f"{result.seconds:.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
