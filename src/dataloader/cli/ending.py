"""How a process ends: one sentence and a code, whatever threads are still stuck."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import IntEnum

import uvloop
from typer import Exit

from dataloader.cli.screen import Screen
from dataloader.exceptions import DataloaderError, SettingsError

_THREADS_END_WITHIN_S = 0.5


class ExitCode(IntEnum):
    """What the shell learns."""

    OK = 0
    FAILED = 1
    BAD_SETTINGS = 2
    INTERRUPTED = 130


class ComponentDiedError(Exception):
    """A part of the process died; the log has said which one and why."""


@contextmanager
def sentences() -> Iterator[None]:
    """Turn the errors that we raise on purpose into one sentence on stderr and an exit code.

    Raises:
        Exit: With the code; anything unforeseen keeps its traceback.
    """
    try:
        yield
    except DataloaderError as error:
        say_error(sentence(error))
        raise Exit(ExitCode.BAD_SETTINGS if isinstance(error, SettingsError) else ExitCode.FAILED) from None
    except ComponentDiedError:
        raise Exit(ExitCode.FAILED) from None
    except KeyboardInterrupt:
        raise Exit(ExitCode.INTERRUPTED) from None


def sentence(error: DataloaderError) -> str:
    """Return an error on one line, with the fields and names that the service gave beside its message."""
    parts = [error.message]
    parts += _reasons(error.details.get("errors"))
    if isinstance(known := error.details.get("known"), list) and known:
        parts.append(f"known are {', '.join(map(str, known))}")
    return "; ".join(" ".join(part.split()) for part in parts)


def _reasons(errors: object) -> list[str]:
    items = [item for item in errors if isinstance(item, dict)] if isinstance(errors, list) else []
    return [f"{item.get('field')}: {item.get('reason')}" for item in items]


def say_error(text: str) -> None:
    """Write the sentence that ends a command."""
    Screen(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error:[/] {_plain(text)}")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def run_async(work: Coroutine[object, object, None]) -> None:
    """Run a command to its end.

    A thread that does not end by itself, such as a blocked pipeline's, cannot hold the process: everything that must
    not be lost has been written and closed when `work` returns.

    Raises:
        Exit: With the code of an error that has been said.
    """
    code = int(ExitCode.FAILED)
    pool = ThreadPoolExecutor(thread_name_prefix="dataloader")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().set_default_executor(pool)
        try:
            with sentences():
                runner.run(work)
            code = ExitCode.OK
        except Exit as end:
            code = end.exit_code
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            _end_if_stuck(code)


def _end_if_stuck(code: int) -> None:
    """End the process here and now if threads are left that nobody can end."""
    deadline_s = time.monotonic() + _THREADS_END_WITHIN_S
    for thread in _other_threads():
        thread.join(max(0.0, deadline_s - time.monotonic()))
    if _other_threads():
        error = sys.exc_info()[1]
        if error and not isinstance(error, Exit):
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _other_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
