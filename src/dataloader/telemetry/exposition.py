"""Serves the metrics of a process that has no API, for Prometheus to scrape."""

from __future__ import annotations

import asyncio

from prometheus_client import start_http_server

from dataloader.exceptions import SettingsError
from dataloader.telemetry.metrics import Metrics


class MetricsPort:
    """A component with a small HTTP server on a thread of its own.

    Args:
        metrics: What is served.
        host: Address to listen on.
        port: From `DL_METRICS_PORT`.
    """

    name = "metrics port"

    def __init__(self, metrics: Metrics, *, host: str, port: int) -> None:
        self._metrics = metrics
        self._host = host
        self._port = port

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop.

        Raises:
            SettingsError: The port is taken.
        """
        try:
            server, thread = start_http_server(self._port, self._host, self._metrics.registry)
        except OSError as error:
            raise SettingsError(f"DL_METRICS_PORT={self._port}: {error.strerror or error}") from error
        try:
            await stop.wait()
        finally:
            await asyncio.to_thread(server.shutdown)
            server.server_close()
            thread.join(1.0)
