"""Starts what a test asks for: by fork from one process that has loaded everything, or from nothing."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from tests.processes.forking import Forge, Forked, Request

_WHOLE_STARTS = os.environ.get("DL_CHAOS") == "full" or "COVERAGE_PROCESS_CONFIG" in os.environ
"""At full size, and where coverage must see it, processes start from nothing, as an operator's do."""

Started = subprocess.Popen[bytes] | Forked


def start(request: Request, *, whole: bool = _WHOLE_STARTS) -> Started:
    """Start a process; with `whole` from nothing."""
    return _begun(request) if whole else _forge().start(request)


def _begun(request: Request) -> subprocess.Popen[bytes]:
    with ExitStack() as stack:
        output, errors = (stack.enter_context(Path(path).open("wb")) for path in (request.output, request.errors))
        return subprocess.Popen(
            [sys.executable, "-m", "dataloader", *request.arguments],
            cwd=request.folder,
            env=request.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output if request.errors == request.output else errors,
            start_new_session=request.alone,
        )


@cache
def _forge() -> Forge:
    forge = Forge()
    atexit.register(forge.close)
    return forge
