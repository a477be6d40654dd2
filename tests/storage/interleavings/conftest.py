"""Three sessions for every order."""

from __future__ import annotations

import pytest

from dataloader.storage.db import Connection
from tests.storage.conftest import Connect
from tests.storage.interleavings.orders import Sessions


@pytest.fixture
async def sessions(pg: Connection, other: Connection, connect_more: Connect) -> Sessions:
    """Two sessions that meet, and one that looks on."""
    return Sessions(pg, other, await connect_more())
