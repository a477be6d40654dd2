"""What the log says of a part that waits for the database."""

from __future__ import annotations

import structlog
from structlog.testing import capture_logs

from dataloader.workers.periodic import Patience


def test_an_error_without_words_is_told_by_its_name() -> None:
    with capture_logs() as told:
        Patience(structlog.get_logger()).failed(TimeoutError())
    assert told[0]["reason"] == "TimeoutError"
