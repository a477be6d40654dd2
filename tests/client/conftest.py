"""A stub and a client of it that does not wait long."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dataloader.client import DataloaderClient, Patience
from tests.client.stub import Stub, running_stub


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with running_stub() as stub:
        yield stub


@pytest.fixture
async def client(stub: Stub) -> AsyncIterator[DataloaderClient]:
    patience = Patience(tries=3, initial_s=0.001, max_s=0.002)
    async with DataloaderClient(stub.url, patience=patience, timeout_s=5, outage_s=5) as client:
        yield client
