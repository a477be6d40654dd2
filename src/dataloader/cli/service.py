"""The service that a command talks to: one that runs, or one of its own on the embedded database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dataloader.client import DataloaderClient, Patience, UnreachableError
from dataloader.config import Settings, load_settings
from dataloader.exceptions import InvalidError, UnavailableError

_PATIENCE = Patience(tries=3, initial_s=0.2)
_WILDCARDS = {"0.0.0.0", "::", "localhost"}  # noqa: S104 - addresses to replace, not to bind


@asynccontextmanager
async def service(url: str | None, *, embedded: bool) -> AsyncIterator[DataloaderClient]:
    """Connect to the service.

    Args:
        url: Where it is; None for this machine at APP_PORT.
        embedded: Run an API in this process, for this command, on the embedded database instead.

    Raises:
        InvalidError: Both were asked for.
        UnavailableError: Nothing answers there; the message says what to do.
    """
    if url is not None and embedded:
        raise InvalidError("--url and --embedded exclude one another")
    if embedded:
        from dataloader.cli.private import private_api  # noqa: PLC0415 - help and clients must not wait for it

        async with private_api() as address, DataloaderClient(address, patience=_PATIENCE) as client:
            yield client
        return
    try:
        async with DataloaderClient(url or api_url(load_settings()), patience=_PATIENCE) as client:
            yield client
    except UnreachableError as error:
        raise UnavailableError(f"{error.message}: start it with `dataloader up`, or name another with --url") from error


def api_url(settings: Settings, *, port: int | None = None) -> str:
    """Return the address under which this machine reaches the API."""
    host = "127.0.0.1" if settings.host in _WILDCARDS else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{port or settings.app_port}"
