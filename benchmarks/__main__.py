"""`python -m benchmarks`: what is asked for, several rounds, ours and the other in turn."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks import document
from benchmarks.report import Report
from benchmarks.suite import PARTS, TITLES, USUAL, Bench
from dataloader.config import Settings, load_settings
from dataloader.embedded import EmbeddedServer
from dataloader.storage.db import connect
from dataloader.storage.migrate import migrate


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = f"all, or any of {', '.join(PARTS)} ({' '.join(USUAL)})"
    parser.add_argument("parts", nargs="*", metavar="part", help=f"what to measure: {names}")
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs of a plain drain (20000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; medians are printed (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all other sizes (1.0)")
    parser.add_argument("--bindir", type=Path, help="programs of another PostgreSQL to measure on (the embedded one)")
    parser.add_argument("--report", type=Path, metavar="PAGE", help="Markdown page to write tables and chart into")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - {"all", *PARTS}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return arguments


async def main(arguments: argparse.Namespace) -> None:
    """Measure on an embedded server with fsync on, print the tables."""
    parts = PARTS if "all" in arguments.parts else arguments.parts or USUAL
    console = Console()
    with tempfile.TemporaryDirectory(prefix="dataloader-bench-") as folder:
        async with EmbeddedServer(Path(folder) / "data", bindir=arguments.bindir) as server:
            settings = load_settings(_env_file=None, **server.overrides())
            await migrate(settings)
            major = await server_version(settings)
            bench = Bench(settings, arguments.jobs, arguments.scale, server.log, Path(folder), console)
            for _ in track(range(arguments.rounds), description="rounds", console=console):
                for part in parts:
                    bench.report.part = TITLES[part]
                    await PARTS[part](bench)
    tell(bench.report, arguments, console, major)


async def server_version(settings: Settings) -> int:
    """Return the major version of the server."""
    connection = await connect(settings, purpose="bench")
    try:
        return connection.get_server_version().major
    finally:
        await connection.close()


def tell(report: Report, arguments: argparse.Namespace, console: Console, major: int) -> None:
    """Print the tables; put them and the chart into the page that was asked for."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, PostgreSQL {major}, Python {platform.python_version()}"
    heading = f"{machine}, medians of {arguments.rounds} rounds"
    console.print(f"\n{heading}\n")
    console.print(report.table(), markup=False, soft_wrap=True)
    if arguments.report:
        document.write(arguments.report, report, machine=heading)


asyncio.run(main(parsed()))
