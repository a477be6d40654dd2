"""The logs of a process: where lines go, what they carry, what they hide, and how they end."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr

from dataloader.config import Settings
from dataloader.exceptions import SettingsError
from dataloader.logger import Loggers, open_loggers

PASSWORD = "correct horse"


class _Process:
    """The logs of one process and what they wrote."""

    def __init__(self, loggers: Loggers, console: io.StringIO) -> None:
        self.loggers = loggers
        self._console = console

    def text(self) -> str:
        """Close the logs and return what the console got."""
        self.loggers.close()
        return self._console.getvalue()

    def lines(self) -> list[dict[str, object]]:
        """Close the logs and return the console's JSON lines."""
        return [json.loads(line) for line in self.text().splitlines()]


Open = Callable[..., _Process]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def start() -> Iterator[Open]:
    """Open logs with the given settings; they are closed when the test ends."""
    with ExitStack() as stack:

        def begin(console: io.StringIO | None = None, **fields: object) -> _Process:
            console = console or io.StringIO()
            settings = Settings.model_validate({"pg_password": SecretStr(PASSWORD), **fields})
            return _Process(stack.enter_context(closing(open_loggers(settings, stream=console))), console)

        yield begin


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_json_with_its_facts_when_nobody_watches(start: Open) -> None:
    process = start()
    process.loggers.app.bind(task="cbr").info("job settled", job_id=7, rows=1.5)
    (line,) = process.lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", str(line.pop("timestamp")))
    assert line == {"level": "info", "event": "job settled", "task": "cbr", "job_id": 7, "rows": 1.5}


def test_time_level_and_message_come_first(start: Open) -> None:
    process = start()
    process.loggers.app.info("job settled", a=1)
    assert list(process.lines()[0])[:3] == ["timestamp", "level", "event"]


def test_a_person_at_a_terminal_gets_colours(start: Open) -> None:
    process = start(_Terminal())
    process.loggers.app.info("job settled", rows=1)
    assert "\x1b[" in process.text()


@pytest.mark.parametrize("field", ["local", "debug"])
def test_a_developers_console_is_readable_without_colours_when_it_is_no_terminal(start: Open, field: str) -> None:
    process = start(**{field: True})
    process.loggers.app.info("job settled", rows=1)
    assert "job settled" in process.text()
    assert "\x1b[" not in process.text()
    assert not process.text().startswith("{")


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, ["info", "warning", "error"]),
        ({"log_level": "WARNING"}, ["warning", "error"]),
        ({"log_level": "ERROR"}, ["error"]),
        ({"log_level": "DEBUG"}, ["debug", "info", "warning", "error"]),
    ],
)
def test_the_level_decides_what_is_written(start: Open, fields: dict[str, object], shown: list[str]) -> None:
    process = start(**fields)
    for level in ("debug", "info", "warning", "error"):
        getattr(process.loggers.app, level)("something happened")
        getattr(logging.getLogger("pipeline"), level)("something happened")
    assert [line["level"] for line in process.lines()] == [level for level in shown for _ in range(2)]


def test_debug_shows_debug_lines_whatever_the_level(start: Open) -> None:
    process = start(debug=True, log_level="ERROR")
    process.loggers.app.debug("details")
    assert "details" in process.text()


def test_the_lines_of_a_library_are_masked_and_carry_its_name(start: Open) -> None:
    process = start()
    logging.getLogger("uvicorn.error").warning("connecting to %s as %s", "postgresql://bob:x1y2@db/z", PASSWORD)
    (line,) = process.lines()
    assert line["event"] == "connecting to postgresql://bob:***@db/z as ***"
    assert line["logger"] == "uvicorn.error"
    assert line["level"] == "warning"


@pytest.mark.parametrize(
    "name", ["uvicorn.error", "sqlalchemy.engine.Engine", "asyncio", "alembic.runtime", "aiohttp.client"]
)
def test_libraries_are_heard_from_warning_on(start: Open, name: str) -> None:
    process = start(log_level="DEBUG")
    logging.getLogger(name).info("chatter")
    logging.getLogger(name).warning("trouble")
    text = process.text()
    assert "chatter" not in text
    assert "trouble" in text


def test_the_access_log_of_uvicorn_is_silent(start: Open) -> None:
    process = start()
    logging.getLogger("uvicorn.access").error("GET /?token=abc")
    assert process.text() == ""


def test_facts_and_messages_are_masked(start: Open) -> None:
    process = start()
    process.loggers.app.info(f"signed in with {PASSWORD}", api_key="k", args={"dsn": "x"}, note=[f"<{PASSWORD}>"])
    (line,) = process.lines()
    assert line["event"] == "signed in with ***"
    assert line["api_key"] == "***"
    assert line["args"] == {"dsn": "***"}
    assert line["note"] == ["<***>"]


def _fail() -> None:
    raise ValueError(f"cannot sign in with {PASSWORD} and token=abc123def")


@pytest.mark.parametrize("fields", [{}, {"local": True}])
def test_a_traceback_is_written_as_text_and_masked(start: Open, fields: dict[str, object]) -> None:
    process = start(**fields)
    try:
        _fail()
    except ValueError:
        process.loggers.app.exception("job failed")
        logging.getLogger("library").exception("call failed")
    text = process.text()
    assert text.count("Traceback (most recent call last)") == 2
    assert text.count("in _fail") == 2
    assert text.count("ValueError: cannot sign in with *** and token=***") == 2
    assert PASSWORD not in text
    assert "abc123def" not in text


def test_an_exception_is_rendered_when_it_is_passed_by_value(start: Open) -> None:
    process = start()
    try:
        _fail()
    except ValueError as error:
        caught = error
    process.loggers.app.error("job failed", exc_info=caught)
    assert "in _fail" in str(process.lines()[0]["exception"])


def test_objects_json_does_not_know_are_written_as_text(start: Open) -> None:
    process = start()
    process.loggers.app.info(
        "odd", path=Path("/x"), nan=float("nan"), keys={(1, 2): b"\xff"}, lone="\ud800", ru="рубль"
    )
    (line,) = process.lines()
    assert line["path"] == "/x"
    assert line["nan"] == "nan"
    assert line["ru"] == "рубль"


def test_a_line_that_cannot_be_rendered_is_reported_without_its_content(
    start: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start()
    logging.getLogger("library").warning("%d", PASSWORD)
    process.loggers.app.info("next")
    assert [line["event"] for line in process.lines()] == ["next"]
    reported = capsys.readouterr().err
    assert re.fullmatch(r"a log line of library \(test_logger_setup\.py:\d+\) was lost: TypeError\n", reported)


def test_each_log_goes_to_its_own_file(start: Open, tmp_path: Path) -> None:
    process = start(log_path=tmp_path / "a", metric_path=tmp_path / "m", audit_log_path=tmp_path / "deep" / "u")
    process.loggers.app.info("app line")
    process.loggers.metric.info("metric line", rows=1)
    process.loggers.audit.info("audit line", password=PASSWORD)
    assert process.text() == ""
    assert [line["event"] for line in _lines(tmp_path / "a" / "app.log")] == ["app line"]
    (metric,) = _lines(tmp_path / "m" / "metric.log")
    assert (metric["event"], metric["log"]) == ("metric line", "metric")
    (audit,) = _lines(tmp_path / "deep" / "u" / "audit.log")
    assert (audit["event"], audit["log"], audit["password"]) == ("audit line", "audit", "***")


def test_audit_lines_are_written_at_every_level(start: Open, tmp_path: Path) -> None:
    process = start(log_level="ERROR", metric_path=tmp_path)
    process.loggers.audit.info("key created")
    process.loggers.metric.info("rows loaded")
    (line,) = process.lines()
    assert (line["event"], line["log"]) == ("key created", "audit")
    assert len(_lines(tmp_path / "metric.log")) == 1


def test_metric_lines_reach_the_console_only_when_debugging(start: Open) -> None:
    process = start()
    process.loggers.metric.error("rows loaded")
    assert process.text() == ""
    process = start(log_level="DEBUG")
    process.loggers.metric.info("rows loaded")
    assert process.lines()[0]["log"] == "metric"


@pytest.mark.parametrize("variable", ["LOG_PATH", "METRIC_PATH", "AUDIT_LOG_PATH"])
def test_a_path_that_cannot_be_written_is_named(tmp_path: Path, variable: str) -> None:
    (tmp_path / "file").touch()
    before = logging.getLogger().handlers[:]
    settings = Settings.model_validate({variable.lower(): tmp_path / "file"})
    with pytest.raises(SettingsError, match=rf"^{variable}: .*/file/\w+\.log cannot be written: File exists$"):
        open_loggers(settings)
    assert logging.getLogger().handlers == before


def test_a_directory_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "app.log").mkdir()
    with pytest.raises(SettingsError, match=r"^LOG_PATH: .* cannot be written: Is a directory$"):
        open_loggers(Settings(_env_file=None, log_path=tmp_path))


def test_close_writes_what_waits(start: Open, tmp_path: Path) -> None:
    process = start(log_path=tmp_path)
    for number in range(5_000):
        process.loggers.app.info("line", number=number)
    process.loggers.close()
    assert [line["number"] for line in _lines(tmp_path / "app.log")] == list(range(5_000))


def test_leaving_without_close_writes_what_waits(tmp_path: Path) -> None:
    code = """
import sys
from dataloader.config import load_settings
from dataloader.logger import open_loggers
app = open_loggers(load_settings(log_path=sys.argv[1])).app
for number in range(1000):
    app.info("line", number=number)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=tmp_path, timeout=30)
    assert len(_lines(tmp_path / "app.log")) == 1_000


def test_close_leaves_logging_as_it_was_found(start: Open, tmp_path: Path) -> None:
    names = ("", "uvicorn", "uvicorn.access", "sqlalchemy")
    found = [(log.level, log.handlers[:], log.propagate, log.disabled) for log in map(logging.getLogger, names)]
    process = start(log_path=tmp_path)
    process.loggers.close()
    process.loggers.close()
    left = [(log.level, log.handlers[:], log.propagate, log.disabled) for log in map(logging.getLogger, names)]
    assert left == found
    assert not structlog.is_configured()


def test_a_line_after_close_goes_nowhere(start: Open, caplog: pytest.LogCaptureFixture) -> None:
    process = start()
    process.loggers.close()
    for logger in (process.loggers.app, process.loggers.metric, process.loggers.audit):
        logger.error("late", password=PASSWORD)
    assert caplog.records == []


def test_logs_can_be_opened_again(start: Open) -> None:
    start().loggers.close()
    process = start()
    process.loggers.app.info("again")
    assert process.lines()[0]["event"] == "again"


def test_the_code_of_a_pipeline_may_use_structlog_itself(start: Open) -> None:
    process = start()
    structlog.get_logger("pipeline").info("loaded", token="x")
    assert process.lines()[0]["token"] == "***"


def test_secrets_registered_later_are_masked(start: Open) -> None:
    process = start()
    process.loggers.masker.register("s3same")
    process.loggers.app.info("open s3same")
    assert process.lines()[0]["event"] == "open ***"


async def test_a_task_that_dies_is_logged_by_asyncio_masked(start: Open) -> None:
    process = start()
    asyncio.get_running_loop().call_exception_handler({"message": f"died of {PASSWORD}"})
    assert process.lines()[0]["event"] == "died of ***"


def test_silent_loggers_write_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    loggers = Loggers.silent()
    loggers.app.bind(a=1).error("x")
    loggers.metric.info("x")
    loggers.audit.info("x")
    loggers.close()
    assert capsys.readouterr() == ("", "")
    assert loggers.masker.text("token=x") == "token=***"
