"""A home of its own for every test; nothing of it may outlive the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from dataloader.embedded import EmbeddedServer
from dataloader.embedded.home import Home
from tests.embedded.scene import User, eventually, nothing_left
from tests.embedded.user import FAST

Spawn = Callable[[], Awaitable[User]]


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    """An empty home; after the test, nothing of it is left within seconds."""
    home = Home.at(tmp_path / "data")
    yield home
    await eventually(lambda: not home.root.exists() or nothing_left(home))


@pytest.fixture
def postgres(home: Home) -> EmbeddedServer:
    """A use of the server that this process can make."""
    return EmbeddedServer(home.root, settings=FAST)


@pytest.fixture
async def spawn(home: Home) -> AsyncIterator[Spawn]:
    """Start users of the server in processes of their own; those that still live are killed after the test."""
    users: list[User] = []

    async def spawn() -> User:
        users.append(await User.spawn(home.root))
        return users[-1]

    yield spawn
    for user in users:
        await user.kill()
