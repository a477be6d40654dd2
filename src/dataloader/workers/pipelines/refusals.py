"""What the service's database refuses for good, as errors that end a load at once and say what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from dataloader.exceptions import PermanentError

_FOR_GOOD = ("0A", "22", "23", "2BP01", "3F000", "42", "44")
"""Classes, or whole codes, of errors of names, rights, values and rules: the same statement fails again."""

_LACKS_IDENTITY = "CheckCmdReplicaIdentity"
"""What refuses to change a published table without a key; its code is also that of states that pass."""

_NEEDS_RIGHT = "the service's role needs that right, see `dataloader doctor`"

_RACES = frozenset({"42701", "42710", "42P06", "42P07"})
"""Somebody else has just created the same thing: it is there at the next attempt."""


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what trying again does not mend into an error that ends the job.

    Raises:
        PermanentError: The database refuses a statement; the message is its own, with detail and hint.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        if not _is_for_good(error):
            raise
        raise PermanentError(_told(error)) from None


def _is_for_good(error: asyncpg.PostgresError) -> bool:
    """Return whether the same statement would fail again; two that create one name meet in the server's catalogue."""
    state = str(error.sqlstate)
    passing = isinstance(error, asyncpg.InvalidCachedStatementError) or error.schema_name == "pg_catalog"
    known = state.startswith(_FOR_GOOD) or error.server_source_function == _LACKS_IDENTITY
    return known and state not in _RACES and not passing


def _told(error: asyncpg.PostgresError) -> str:
    told = [str(error.args[0]), *(str(part) for part in (error.detail, error.hint) if part)]
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        told.append(_NEEDS_RIGHT)
    return f"the database refuses it: {'; '.join(part.rstrip('.') for part in told)} ({error.sqlstate})"
