"""Databases that the settings know by name."""

from __future__ import annotations

from dataloader.config import Settings
from dataloader.exceptions import PermanentError


def named_dsn(settings: Settings, name: str) -> str:
    """Return the address of a database, which nobody may be shown.

    Raises:
        PermanentError: The settings know none of that name.
    """
    known = settings.dl_connections or {}
    if name not in known:
        raise PermanentError(
            f"no connection {name!r} in DL_CONNECTIONS; known are: {', '.join(sorted(known)) or 'none'}"
        )
    return known[name].get_secret_value()
