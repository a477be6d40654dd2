"""Files several processes share, and the thread that writes."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dataloader.logger.handlers import Background, Console, SharedFile


def _record(message: str) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": message, "name": "test", "levelname": "INFO"})


def _write(file: SharedFile, *messages: str) -> None:
    for message in messages:
        file.handle(_record(message))


def test_a_full_file_is_rotated_and_the_oldest_is_dropped(tmp_path: Path) -> None:
    file = SharedFile(tmp_path / "app.log", limit_bytes=20, kept=2)
    _write(file, *(f"line {number:04}" for number in range(9)))
    file.close()
    texts = {path.name: path.read_text().split("\n")[:-1] for path in tmp_path.iterdir()}
    assert texts == {
        "app.log": ["line 0008"],
        "app.log.1": ["line 0006", "line 0007"],
        "app.log.2": ["line 0004", "line 0005"],
    }


def test_only_the_owner_and_the_group_may_read_the_file(tmp_path: Path) -> None:
    SharedFile(tmp_path / "app.log").close()
    assert (tmp_path / "app.log").stat().st_mode & 0o007 == 0


def test_a_line_follows_a_rotation_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    one, other = SharedFile(path, limit_bytes=10), SharedFile(path, limit_bytes=10)
    _write(one, "long enough to rotate")
    _write(other, "x")
    one.close()
    other.close()
    assert path.read_text() == "x\n"


def test_a_file_another_process_has_rotated_is_not_rotated_again(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    one, late = SharedFile(path, limit_bytes=10), SharedFile(path, limit_bytes=10)
    _write(one, "long enough to rotate", "x")
    late._rotate()
    one.close()
    late.close()
    assert path.read_text() == "x\n"
    assert not (tmp_path / "app.log.2").exists()


def test_a_file_removed_from_outside_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = SharedFile(path)
    path.unlink()
    _write(file, "x")
    file.close()
    assert path.read_text() == "x\n"


def test_a_rotation_under_way_elsewhere_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = SharedFile(path, limit_bytes=1)
    with path.open() as elsewhere:
        fcntl.flock(elsewhere, fcntl.LOCK_EX)
        _write(file, "a", "b")
    assert path.read_text() == "a\nb\n"
    _write(file, "c")
    file.close()
    assert (tmp_path / "app.log.1").read_text() == "a\nb\nc\n"


def test_a_disk_error_loses_the_line_with_a_word_and_without_raising(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = SharedFile(Path("/dev/full"))
    _write(file, "secret content")
    file.close()
    reported = capsys.readouterr().err
    assert "was lost: OSError" in reported
    assert "secret content" not in reported


WRITER = """
import logging, sys
from pathlib import Path
from dataloader.logger.handlers import SharedFile
path, name, lines = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
file = SharedFile(path, limit_bytes=10_000, kept=1_000)
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.readline()
for number in range(lines):
    file.handle(logging.makeLogRecord({"msg": f"{name} {number} " + "x" * (number % 90)}))
file.close()
"""


def test_two_processes_that_write_and_rotate_lose_no_line(tmp_path: Path) -> None:
    lines = 5_000
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "app.log"), name, str(lines)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    errors = [writer.communicate(timeout=60)[1] for writer in writers]
    written = [line for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    expected = [f"{name} {number} " + "x" * (number % 90) for name in ("a", "b") for number in range(lines)]
    assert errors == ["", ""]
    assert len(list(tmp_path.iterdir())) > 25
    assert sorted(written) == sorted(expected)


class _Gate(logging.Handler):
    """A sink that stands still until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.go = threading.Event()
        self.written: list[str] = []
        self.closed = False

    def emit(self, record: logging.LogRecord) -> None:
        self.reached.set()
        self.go.wait(5)
        self.written.append(record.getMessage())

    def close(self) -> None:
        self.closed = True
        super().close()


def test_a_sink_that_stands_still_does_not_hold_up_who_logs() -> None:
    gate = _Gate()
    handler = Background(gate, logging.Formatter())
    started = time.monotonic()
    for number in range(100):
        handler.handle(_record(str(number)))
    assert time.monotonic() - started < 1
    assert gate.written == []
    gate.go.set()
    handler.close()
    assert gate.written == [str(number) for number in range(100)]
    assert gate.closed


def test_lines_beyond_the_room_are_dropped_and_counted() -> None:
    gate = _Gate()
    handler = Background(gate, logging.Formatter(), waiting=3)
    handler.handle(_record("first"))
    assert gate.reached.wait(5)
    for number in range(10):
        handler.handle(_record(str(number)))
    gate.go.set()
    while len(gate.written) < 4:
        time.sleep(0)
    handler.handle(_record("later"))
    handler.close()
    assert gate.written == ["first", "0", "1", "2", "later", "log lines dropped: 7"]


class _SlowFormatter(logging.Formatter):
    """Renders the line "slow" only once it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.go = threading.Event()

    def format(self, record: logging.LogRecord) -> str:
        if record.msg == "slow":
            self.reached.set()
            self.go.wait(5)
        return super().format(record)


def test_a_line_that_takes_long_to_render_holds_up_no_other_thread() -> None:
    gate, formatter = _Gate(), _SlowFormatter()
    gate.go.set()
    handler = Background(gate, formatter)
    slow = threading.Thread(target=handler.handle, args=(_record("slow"),))
    slow.start()
    assert formatter.reached.wait(5)
    handler.handle(_record("quick"))
    formatter.go.set()
    slow.join(5)
    handler.close()
    assert gate.written == ["quick", "slow"]


def test_a_line_is_rendered_as_it_was_when_it_was_logged() -> None:
    gate = _Gate()
    handler = Background(gate, logging.Formatter())
    rows = [1]
    handler.handle(logging.makeLogRecord({"msg": "rows %s", "args": (rows,)}))
    rows.append(2)
    gate.go.set()
    handler.close()
    assert gate.written == ["rows [1]"]


def test_a_console_that_went_away_raises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    console = Console(stream)
    stream.close()
    console.handle(_record("x"))
    assert "was lost: ValueError" in capsys.readouterr().err


def test_a_console_that_is_gone_with_stderr_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        Console(stream).handle(_record("x"))
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)
