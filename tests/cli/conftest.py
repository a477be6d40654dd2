"""A stub of the API for commands."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.client.stub import Stub, running_stub


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with running_stub() as stub:
        yield stub
