"""Fixtures of the API's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dataloader.config import Settings
from tests.api.scene import Scene, opened


@pytest.fixture
async def scene(settings: Settings) -> AsyncIterator[Scene]:
    """An application with its parts running, on this test's database."""
    async with opened(settings) as scene:
        yield scene
