"""Copies the project, breaks the copy, and lets its tests run."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dataloader.embedded import EmbeddedServer
from tests.conftest import _UNSAFE_BUT_FAST, _settings, direct_dsn
from tests.mutants.mutant import Mutant, StaleMutantError

ROOT = Path(__file__).parents[2]
PARTS = ("src", "tests", "examples", "pyproject.toml", "DDL.sql")
TIMEOUT_S = 240.0
_FAILED = re.compile(r"^FAILED (\S+?::.+?)(?: - .*)?$", re.MULTILINE)
_SAID = re.compile(r"^E +(\S.*)$", re.MULTILINE)
_ACCIDENTS = re.compile(
    r"^E +\S*(?:SyntaxError|NameError|ImportError|AttributeError|IndeterminateDatatypeError|UndefinedColumnError"
    r"|UndefinedFunctionError|UndefinedTableError|AmbiguousColumnError|DatatypeMismatchError)\b.*$",
    re.MULTILINE,
)


class Verdict(StrEnum):
    """What became of a mutant."""

    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    STALE = "STALE"
    BROKEN = "BROKEN"


@dataclass(frozen=True, slots=True)
class Result:
    """What the tests said of a copy.

    Attributes:
        by: The test that failed first, or what went wrong.
        seconds: How long it took.
        said: What that test said.
    """

    verdict: Verdict
    by: str
    seconds: float
    said: str = ""


class Workshop:
    """Tries mutants, each in a copy of its own.

    Args:
        folder: Where the copies are made.
        environment: Of the tests; it leads to a server that all of them share.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment

    async def check(self) -> None:
        """See that a copy is what its tests import, and not the package that is installed.

        Raises:
            RuntimeError: It is not.
        """
        with self._copy() as root:
            process = await self._start(root, "-c", "import dataloader; print(dataloader.__file__)")
            output, _ = await process.communicate()
        if not output.decode().strip().startswith(str(root)):
            raise RuntimeError(f"the tests of a copy would test something else: {output.decode()}")

    async def try_mutant(self, mutant: Mutant) -> Result:
        """Break a copy and run the tests that must find it."""
        with self._copy() as root:
            try:
                mutant.apply(root)
            except StaleMutantError as error:
                return Result(Verdict.STALE, str(error), 0.0)
            return await self._run(root, [*mutant.tests, "-x"])

    async def run_unbroken(self, selection: Sequence[str]) -> Result:
        """Run tests in a copy that is not broken: they must not fail."""
        with self._copy() as root:
            return await self._run(root, selection)

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        root = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            for part in PARTS:
                if (ROOT / part).is_dir():
                    shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / part, root / part)
            yield root
        finally:
            shutil.rmtree(root, ignore_errors=True)

    async def _run(self, root: Path, arguments: Sequence[str]) -> Result:
        began_s = time.monotonic()
        process = await self._start(root, "-m", "pytest", "-p", "no:cacheprovider", "-rf", "--tb=short", *arguments)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                output, _ = await process.communicate()
        except TimeoutError:
            return Result(Verdict.BROKEN, f"no end within {TIMEOUT_S:g} s", time.monotonic() - began_s)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return _judged(process.returncode, output.decode("utf-8", "replace"), time.monotonic() - began_s)

    async def _start(self, root: Path, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, *arguments,
            cwd=root,
            env={**os.environ, **self._environment, "PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip


@asynccontextmanager
async def opened() -> AsyncIterator[Workshop]:
    """Open a workshop with a server of its own."""
    with tempfile.TemporaryDirectory(prefix="dl-mutants-", ignore_cleanup_errors=True) as directory:
        server = EmbeddedServer(Path(directory) / "postgres", database="postgres", settings=_UNSAFE_BUT_FAST)
        async with server:
            dsn = direct_dsn(_settings(server.overrides(), "postgres"))
            workshop = Workshop(Path(directory), {"DL_TEST_DSN": dsn})
            await workshop.check()
            yield workshop


def _judged(code: int | None, output: str, seconds: float) -> Result:
    """Say what a run of pytest means: a test that failed has found something, but not code that cannot even run."""
    failed, said, accident = (pattern.search(output) for pattern in (_FAILED, _SAID, _ACCIDENTS))
    if code == 0:
        return Result(Verdict.SURVIVED, "", seconds)
    if accident:
        return Result(Verdict.BROKEN, accident[0], seconds)
    if code == 1 and failed:
        return Result(Verdict.CAUGHT, failed[1], seconds, said[1] if said else "")
    return Result(Verdict.BROKEN, "\n".join(output.splitlines()[-15:]), seconds)
