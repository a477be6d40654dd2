"""Our own checks inside of Pydantic's models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dataloader.exceptions import DataloaderError

T = TypeVar("T")


def checked(check: Callable[[], T]) -> T:
    """Return what a check of ours returns.

    Raises:
        ValueError: It raised an error of ours; this is how Pydantic wants it.
    """
    try:
        return check()
    except DataloaderError as error:
        raise ValueError(error.message) from None
