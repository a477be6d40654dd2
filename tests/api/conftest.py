"""Fixtures of the API's tests: one database for all of them, emptied before each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from dataloader.config import Settings
from dataloader.storage.models import Base
from tests.api.scene import Scene, opened
from tests.conftest import _database, _execute, _settings

_EMPTY = f"truncate {', '.join(table.name for table in Base.metadata.sorted_tables)} restart identity"


@pytest.fixture(scope="session")
def api_database(server: dict[str, object], template: str) -> Iterator[str]:
    """Name of a migrated database that the tests of this directory use one after the other."""
    with _database(server, f'create database {{}} template "{template}"') as name:
        yield name


@pytest.fixture
def database(server: dict[str, object], api_database: str) -> str:
    """Name of that database, emptied."""
    asyncio.run(_execute(_settings(server, api_database), _EMPTY))
    return api_database


@pytest.fixture
async def scene(settings: Settings) -> AsyncIterator[Scene]:
    """An application with its parts running, on this test's database."""
    async with opened(settings) as scene:
        yield scene
