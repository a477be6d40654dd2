"""Where lines end: the console, or files several processes share; written by a thread of their own."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import logging.handlers
import os
import queue
import sys
import threading
from pathlib import Path
from typing import TextIO

FILE_BYTES = 50 * 1024 * 1024
"""Size at which a log file is rotated."""

FILES_KEPT = 10
"""How many rotated files stay beside the current one."""

_LINES_WAITING = 100_000
_CLOSE_TIMEOUT_S = 5.0


class _Discreet(logging.Handler):
    """A handler that reports a lost line without its content, which nobody has masked."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Tell stderr which line was lost and why; never raise."""
        reason = getattr(sys.exc_info()[0], "__name__", "unknown")
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"a log line of {record.name} ({record.filename}:{record.lineno}) was lost: {reason}\n")


class Console(_Discreet, logging.StreamHandler[TextIO]):
    """Writes lines to a stream."""


class SharedFile(_Discreet):
    """Appends lines to a file that any number of processes write and rotate without losing any.

    A line is one write to a file opened for appending, which the kernel keeps whole. The process that
    finds the file full locks that very file and renames it, unless another one has; the others notice
    before their next line that the path leads elsewhere. A line on its way meanwhile goes to the renamed
    file.

    Args:
        path: The current file; rotated ones get `.1`, the youngest, to `.<kept>`.
        limit_bytes: Size at which the file is rotated.
        kept: How many rotated files stay.

    Raises:
        OSError: When the file cannot be opened.
    """

    def __init__(self, path: Path, *, limit_bytes: int = FILE_BYTES, kept: int = FILES_KEPT) -> None:
        super().__init__()
        self._path = path
        self._limit_bytes = limit_bytes
        self._kept = kept
        self._file = _open(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Append one line, and rotate when that filled the file."""
        try:
            self._append(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            os.close(self._file)
        super().close()

    def _append(self, line: bytes) -> None:
        if not self._is_current():
            self._reopen()
        while line:
            line = line[os.write(self._file, line) :]
        if os.fstat(self._file).st_size >= self._limit_bytes:
            self._rotate()

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _reopen(self) -> None:
        file = _open(self._path)
        os.close(self._file)
        self._file = file

    def _rotate(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            if self._is_current():
                self._shift()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _shift(self) -> None:
        """Rename the files, oldest first; the current one last, because that lets the next rotation begin."""
        last = next((n for n in range(1, self._kept) if not self._numbered(n).exists()), self._kept)
        for number in range(last, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number - 1).replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


class Background(_Discreet, logging.handlers.QueueHandler):
    """Renders lines where they are logged and hands them to a thread that writes them to `sink`.

    When the sink cannot keep up, lines beyond 100,000 waiting ones are dropped and counted rather than
    block the event loop or fill the memory; a line says how many as soon as there is room.
    """

    def __init__(self, sink: logging.Handler, formatter: logging.Formatter, *, waiting: int = _LINES_WAITING) -> None:
        self._lines: queue.Queue[logging.LogRecord | None] = queue.Queue(waiting)
        super().__init__(self._lines)
        self.setFormatter(formatter)
        self._sink = sink
        self._dropped = 0
        self._counting = threading.Lock()
        self._thread: threading.Thread | None = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    def handle(self, record: logging.LogRecord) -> bool:
        """Render without the handler's lock, so that a long line of one thread holds up no other."""
        self.emit(record)
        return True

    def enqueue(self, record: logging.LogRecord) -> None:
        """Hand a rendered line over, or count it as dropped."""
        try:
            self._lines.put_nowait(record)
        except queue.Full:
            with self._counting:
                self._dropped += 1
            return
        if self._dropped:
            self._report_dropped()

    def close(self) -> None:
        """Write what waits, for 5 seconds at most, then close the sink; a second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(queue.Full):
                self._lines.put(None, timeout=_CLOSE_TIMEOUT_S)
            thread.join(_CLOSE_TIMEOUT_S)
            if not thread.is_alive():
                self._sink.close()
        super().close()

    def _write(self) -> None:
        while (record := self._lines.get()) is not None:
            self._sink.handle(record)

    def _report_dropped(self) -> None:
        with self._counting, contextlib.suppress(queue.Full):
            fact = {"msg": f"log lines dropped: {self._dropped}", "name": __name__, "levelname": "WARNING"}
            self._lines.put_nowait(self.prepare(logging.makeLogRecord(fact)))
            self._dropped = 0


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
