"""Where dlt loads to: the service's own database, or one that the settings name."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from dataloader.config import Settings
from dataloader.connectors.sql import named_dsn
from dataloader.storage.db import connect_options


def credentials(settings: Settings, connection: str | None) -> dict[str, Any]:
    """Return what dlt needs to reach a database; it stays in the process.

    Raises:
        PermanentError: The settings know no such connection.
    """
    if connection is not None:
        return _taken_apart(named_dsn(settings, connection))
    options = connect_options(settings)
    if "dsn" in options:
        return _taken_apart(str(options["dsn"]))
    return _fit({**options, "username": options["user"]})


def _taken_apart(dsn: str) -> dict[str, Any]:
    parts, query = urlsplit(dsn), dict(parse_qsl(urlsplit(dsn).query))
    return _fit(
        {
            "username": unquote(parts.username or "") or query.pop("user", None),
            "password": unquote(parts.password or "") or query.pop("password", None),
            "host": unquote(parts.hostname or "") or query.pop("host", "localhost"),
            "port": parts.port or int(query.pop("port", 5432)),
            "database": unquote(parts.path.removeprefix("/")) or query.pop("dbname", None),
            "query": query,
        }
    )


def _fit(parts: dict[str, Any]) -> dict[str, Any]:
    """Return the parts that dlt knows; it puts the host into a URL as it is, also where it is a socket's directory."""
    known = ("username", "password", "host", "port", "database", "query")
    kept = {name: parts[name] for name in known if parts.get(name) is not None}
    return {**kept, "host": quote(kept["host"], safe=":"), "password": kept.get("password", "")}
