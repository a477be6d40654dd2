"""Rows that a table does not take: which one, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass

import asyncpg

from dataloader.exceptions import PermanentError

_PLACE = re.compile(r"^COPY .+?, \w+ (\d+)(?:, \w+ (?P<column>[^:\n]+))?", re.MULTILINE)
_SHOWN_CHARS = 200

RowProblem = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.RaiseError,
)
"""What the database, or a trigger of its owner, raises about what is in a row, and not about how it was sent."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was not taken.

    Attributes:
        source: The file.
        line: Where it begins in the file, from 1; None if that is not known.
        row: Its content.
        reason: What the database said.
    """

    source: str
    line: int | None
    row: str
    reason: str


class RowError(PermanentError):
    """A row that the table does not take; the message says where it is and what is wrong with it."""

    code = "bad_row"

    def __init__(
        self,
        source: str,
        error: asyncpg.PostgresError,
        *,
        before: int = 0,
        line: int | None = None,
        headed: bool = True,
        advice: str = "",
    ) -> None:
        told, column = place_of(error, headed=headed)
        line = before + told if line is None and told is not None else line
        where = [source]
        if line is not None:
            where.append(f"line {line}")
        if column is not None:
            where.append(f"column {column}")
        super().__init__(f"{', '.join(where)}: {reason_of(error)}{advice}")


def place_of(error: asyncpg.PostgresError, *, headed: bool = True) -> tuple[int | None, str | None]:
    """Return line, counted from 1 behind the header that every copy of text has, and column that COPY's error names.

    For a row that is too large the server names the line it has read up to, not the row's.
    """
    if isinstance(error, asyncpg.ProgramLimitExceededError):
        return None, None
    match = _PLACE.search(str(getattr(error, "context", None) or ""))
    return (max(int(match[1]) - headed, 1), match["column"]) if match else (None, None)


def reason_of(error: asyncpg.PostgresError) -> str:
    """Return what is wrong, with the detail that names the values."""
    detail = str(getattr(error, "detail", None) or "")
    text = f"{error.args[0]}: {detail}" if detail else str(error.args[0])
    return text[:1_000]


def shown(row: bytes) -> str:
    """Return a row's content so that text of PostgreSQL can hold it."""
    return row.decode(errors="replace").replace("\0", "\ufffd")


def excerpt(row: str) -> str:
    """Return the beginning of a row for a message."""
    return row if len(row) <= _SHOWN_CHARS else f"{row[:_SHOWN_CHARS]}…"
