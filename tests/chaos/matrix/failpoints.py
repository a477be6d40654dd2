"""Inside the processes under test: the seams are wrapped once, when the pipelines are loaded."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.chaos.matrix.orders import Action, Order, Orders
from tests.chaos.matrix.seams import SEAMS, Seam


class InjectedError(Exception):
    """An error nobody foresaw."""


class MissingSeamError(Exception):
    """The code has changed so that a seam is no longer where it was; the matrix must follow."""


def install(orders: Orders) -> None:
    """Put a fail point into every seam.

    Raises:
        MissingSeamError: A seam is gone, or its arguments have changed.
    """
    for seam in SEAMS:
        owner, name, method = found(seam)
        setattr(owner, name, _with_fail_point(seam, method, orders))


def found(seam: Seam) -> tuple[Any, str, Callable[..., Any]]:
    """Return where a seam's method hangs, its name and itself.

    Raises:
        MissingSeamError: It is not there, or has no such argument.
    """
    module, _, path = seam.target.partition(":")
    owner_path, _, name = path.rpartition(".")
    try:
        owner: Any = importlib.import_module(module)
        for part in filter(None, owner_path.split(".")):
            owner = getattr(owner, part)
        method: Callable[..., Any] = owner.__dict__[name]
    except (ImportError, AttributeError, KeyError) as error:
        raise MissingSeamError(f"seam {seam.name!r}: there is no {seam.target}") from error
    argument = (seam.connection or "").partition(".")[0]
    if argument and argument not in inspect.signature(method).parameters:
        raise MissingSeamError(f"seam {seam.name!r}: {seam.target} has no argument {argument!r}")
    return owner, name, method


def _with_fail_point(seam: Seam, method: Callable[..., Any], orders: Orders) -> Callable[..., Any]:
    signature = inspect.signature(method)

    def due(args: tuple[Any, ...], options: dict[str, Any], result: object) -> tuple[Order | None, dict[str, Any]]:
        if not orders.lies(seam.name):
            return None, {}
        arguments = signature.bind(*args, **options).arguments
        return (orders.take(seam.name) if seam.when(arguments, result) else None), arguments

    @functools.wraps(method)
    async def passed(*args: Any, **options: Any) -> Any:
        result: object = None
        if seam.after:
            result = await method(*args, **options)
        order, arguments = due(args, options, result)
        if order is not None:
            await _obey(order, await _connection(seam, arguments), orders)
        return result if seam.after else await method(*args, **options)

    @functools.wraps(method)
    def passed_at_once(*args: Any, **options: Any) -> Any:
        result = method(*args, **options) if seam.after else None
        order, _ = due(args, options, result)
        if order is not None:
            _act(order)
        return result if seam.after else method(*args, **options)

    return passed if inspect.iscoroutinefunction(method) else passed_at_once


async def _connection(seam: Seam, arguments: dict[str, Any]) -> Any:
    """Return the driver's own connection below pools and SQLAlchemy."""
    if seam.connection is None:
        return None
    name, _, attribute = seam.connection.partition(".")
    connection: Any = arguments[name]
    if attribute:
        connection = attrgetter(attribute)(connection)
    if isinstance(connection, AsyncConnection):
        connection = (await connection.get_raw_connection()).driver_connection
    return getattr(connection, "_con", connection)


async def _obey(order: Order, connection: Any, orders: Orders) -> None:
    match order.action:
        case Action.CUT:
            connection._transport.abort()
        case Action.DROP:
            orders.drop_answer_to(connection.get_server_pid(), order.number)
        case _:
            _act(order)


def _act(order: Order) -> None:
    match order.action:
        case Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.FREEZE:
            os.kill(os.getpid(), signal.SIGSTOP)
        case Action.RAISE:
            raise InjectedError(f"fault {order.number} at {order.seam}")
        case Action.REFUSE:
            raise asyncpg.LockNotAvailableError(f"fault {order.number} at {order.seam}")
        case _:
            raise AssertionError(f"{order.action} needs a connection")
