"""How long the server takes for every claim, from its own log."""

from __future__ import annotations

import re
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dataloader.config import Settings
from dataloader.storage.db import connect

_ON = (
    "alter system set log_line_prefix = '%a|%p|'",
    "alter system set log_min_duration_statement = 0",
    "alter system set log_parameter_max_length = 0",
    "select pg_reload_conf()",
)
_OFF = ("alter system reset all", "select pg_reload_conf()")
_RECORD = re.compile(r"^(?=[^\t\n]*\|\d+\|)", re.MULTILINE)
_TIMED = re.compile(r"dataloader control\|\d+\|LOG:  duration: (?P<ms>[\d.]+) ms  (?P<step>bind|execute) ")
_CLAIMS = "claimed as ("


@dataclass(frozen=True, slots=True)
class Claims:
    """Times of claims, in milliseconds; filled in at the end of the block."""

    took_ms: list[float] = field(default_factory=list)

    @property
    def longest_ms(self) -> float:
        """Return the longest."""
        return max(self.took_ms)

    @property
    def median_ms(self) -> float:
        """Return the median."""
        return statistics.median(self.took_ms)


@asynccontextmanager
async def of_claims(settings: Settings, log: Path) -> AsyncIterator[Claims]:
    """Have the server write down how long statements take, for the time of the block.

    Args:
        settings: Where the server is; its user must be a superuser.
        log: The server's log.
    """
    claims = Claims()
    connection = await connect(settings, purpose="bench")
    try:
        for sql in _ON:
            await connection.execute(sql)
        start = _size(log)
        yield claims
        for sql in _OFF:
            await connection.execute(sql)
        claims.took_ms.extend(claim_times(_read(log, start)))
    finally:
        await connection.close()


def claim_times(text: str) -> list[float]:
    """Return the milliseconds of every claim in a log: what planning and executing it took together."""
    times, planned_ms = [], 0.0
    for record in _RECORD.split(text):
        found = _TIMED.match(record)
        if not found or _CLAIMS not in record:
            continue
        if found["step"] == "bind":
            planned_ms = float(found["ms"])
        else:
            times.append(planned_ms + float(found["ms"]))
            planned_ms = 0.0
    return times


def _size(log: Path) -> int:
    return log.stat().st_size


def _read(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")
