"""Cursors: where a page ended, opaque to clients so that it may change."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from dataloader.exceptions import InvalidError


def cursor_of(job_id: UUID) -> str:
    """Return the cursor of a page that ended with this job."""
    return base64.urlsafe_b64encode(job_id.bytes).decode().rstrip("=")


def read_cursor(cursor: str) -> UUID:
    """Return the job a page ended with.

    Raises:
        InvalidError: It is not a cursor of ours.
    """
    try:
        return UUID(bytes=base64.b64decode(cursor.encode() + b"==", altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        reason = "is not a cursor from an earlier page"
        raise InvalidError(f"cursor {reason}", errors=[{"field": "cursor", "reason": reason}]) from None


def read_labels(pairs: list[str]) -> dict[str, str]:
    """Return `name=value` texts as a mapping.

    Raises:
        InvalidError: One of them has no `=`, a NUL, or a name twice.
    """
    labels: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or "\x00" in pair or labels.get(name, value) != value:
            reason = "must read name=value, each name once"
            raise InvalidError(f"label {reason}", errors=[{"field": "label", "reason": reason}])
        labels[name] = value
    return labels
