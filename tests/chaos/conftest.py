"""Two sizes of every scenario: small in the suite, full by `make chaos` (DL_CHAOS=full)."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dataloader.config import Settings
from tests.chaos.processes import TABLES, Fleet

T = TypeVar("T")
FULL = os.environ.get("DL_CHAOS") == "full"
"""Whether `make chaos` is running, and not the suite."""

REPORT = pytest.StashKey[list[str]]()


@dataclass(frozen=True, slots=True)
class Size:
    """How large a scenario is."""

    full: bool

    def pick(self, *, small: T, full: T) -> T:
        return full if self.full else small


@pytest.fixture(scope="session")
def size() -> Size:
    return Size(full=FULL)


@pytest.fixture
def chance(report: Callable[..., None]) -> random.Random:
    """The randomness of a scenario; `DL_CHAOS_SEED` repeats one."""
    seed = int(os.environ.get("DL_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    report(seed=seed)
    return random.Random(seed)  # noqa: S311 - a seed repeats a run


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Say what was measured: seen with `-s`, in a failure's output, and once more at the end of a full run."""

    def say(**facts: object) -> None:
        line = f"{request.node.name}: " + ", ".join(
            f"{name.replace('_', ' ')} {_short(fact)}" for name, fact in facts.items()
        )
        sys.stdout.write(f"\n{line}\n")
        request.config.stash.setdefault(REPORT, []).append(line)

    return say


@pytest.fixture
async def fleet(settings: Settings, tmp_path: Path, pg: Any) -> AsyncIterator[Fleet]:
    """Starts processes of the service on this test's database."""
    await pg.execute(TABLES)
    fleet = Fleet(settings, tmp_path)
    yield fleet
    await fleet.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Repeat the numbers of a full run in one place."""
    if os.environ.get("DL_CHAOS") == "full":
        terminalreporter.section("what was measured")
        for line in config.stash.get(REPORT, []):
            terminalreporter.write_line(line)


def _short(fact: object) -> str:
    if isinstance(fact, float):
        return f"{fact:.3g}"
    if isinstance(fact, dict):
        return "{" + ", ".join(f"{name} {_short(value)}" for name, value in fact.items()) + "}"
    if isinstance(fact, list):
        return "[" + ", ".join(_short(item) for item in fact) + "]"
    return str(fact)
