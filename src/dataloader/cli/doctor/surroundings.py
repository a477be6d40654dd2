"""Checks of everything but the database: logs, tasks, the port, the programs of an embedded server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import aiohttp

from dataloader.cli.doctor.finding import Report
from dataloader.cli.readiness import idle_queues
from dataloader.config import Settings
from dataloader.embedded.binaries import find_binaries
from dataloader.workers.pipelines.registry import Registry, load_all

_ANSWER_WITHIN_S = 2.0


async def examine_surroundings(report: Report, settings: Settings, *, embedded: bool) -> None:
    """Check what a process needs beside its database.

    Args:
        report: Takes the findings.
        settings: What to look at.
        embedded: The database is an embedded one.
    """
    _examine_logs(report, settings)
    await report.run("tasks", lambda: _examine_tasks(report, settings))
    await _examine_port(report, settings)
    if settings.has_database and not embedded:
        report.skip("embedded server", "not needed, a database is configured")
    else:
        await report.run("embedded server", lambda: _examine_binaries(report, settings))


def _examine_logs(report: Report, settings: Settings) -> None:
    files = {
        "LOG_PATH": settings.log_path and settings.log_path / settings.log_file_name,
        "METRIC_PATH": settings.metric_path and settings.metric_path / settings.metric_file_name,
        "AUDIT_LOG_PATH": settings.audit_log_path and settings.audit_log_path / settings.audit_log_file_name,
    }
    wanted = {variable: file for variable, file in files.items() if file}
    unwritable = [f"{variable}: {file}" for variable, file in wanted.items() if not is_writable(file)]
    if unwritable:
        report.fail("logs", f"cannot be written: {', '.join(unwritable)}", "create the directory for this user")
    else:
        report.ok("logs", ", ".join(map(str, wanted.values())) or "to the console")


def is_writable(file: Path) -> bool:
    """Return whether this user could append to `file`, without creating anything that the service's user could not."""
    if file.exists():
        return file.is_file() and os.access(file, os.W_OK)
    parent = next(place for place in file.absolute().parents if place.exists())
    return parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)


async def _examine_tasks(report: Report, settings: Settings) -> None:
    registry = load_all(settings.dl_pipelines)
    names = [spec.name for spec in registry]
    if idle := idle_queues(settings.workers_json or (), registry):
        report.warn("tasks", f"no known task runs on {', '.join(idle)}", _advice(registry))
    else:
        report.ok("tasks", f"{len(names)} known: {', '.join(names)}")


def _advice(registry: Registry) -> str:
    return f"WORKERS_JSON may name {', '.join(registry.queues())}; DL_PIPELINES names modules with more tasks"


async def _examine_port(report: Report, settings: Settings) -> None:
    where = f"{settings.host}:{settings.app_port}"
    problem = _bind_problem(settings.host, settings.app_port)
    if problem is None:
        report.ok("port", f"{where} is free")
    elif await _is_dataloader(settings):
        report.ok("port", f"{where}: a Dataloader answers here")
    else:
        report.fail("port", f"{where}: {problem}", "set APP_PORT to a free one, or stop what listens there")


def _bind_problem(host: str, port: int) -> str | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return None


async def _is_dataloader(settings: Settings) -> bool:
    timeout = aiohttp.ClientTimeout(total=_ANSWER_WITHIN_S)
    with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{settings.host}:{settings.app_port}/openapi.json") as response,
        ):
            document = await response.json()
            return isinstance(document, dict) and "/api/v1/jobs/trigger" in document.get("paths", {})
    return False


async def _examine_binaries(report: Report, settings: Settings) -> None:
    binaries = await asyncio.to_thread(find_binaries, settings.dl_pg_bindir, major=None)
    report.ok("embedded server", f"PostgreSQL {binaries.major} in {binaries.bindir}")
