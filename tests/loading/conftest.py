"""Fixtures of the loading tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dataloader.config import Settings
from dataloader.storage.db import Connection
from dataloader.workers.pipelines.registry import REGISTRY, load_all
from tests.conftest import direct_dsn
from tests.loading.scene import Scene
from tests.loading.unloaded import ROWS, WORKERS
from tests.workers.harness import running_service

if TYPE_CHECKING:
    from moto.server import ThreadedMotoServer

    from tests.loading.stores import Store


@pytest.fixture
def scene(make_settings: Callable[..., Settings], pg: Connection, tmp_path: Path) -> Scene:
    """A folder that loads may read, and a database."""
    workers = '[{"queue": "load.file", "concurrency": 2}]'
    return Scene(tmp_path, make_settings(dl_source_roots=str(tmp_path), workers_json=workers), pg)


@pytest.fixture(scope="session")
def store_server() -> Iterator[ThreadedMotoServer]:
    """A server of S3."""
    from tests.loading.stores import serving  # noqa: PLC0415 - few tests wait for it

    with serving() as server:
        yield server


@pytest.fixture
def store(store_server: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An S3 of this machine."""
    from tests.loading.stores import led_to  # noqa: PLC0415 - few tests wait for it

    with led_to(store_server, monkeypatch) as store:
        yield store


@pytest.fixture
async def working(scene: Scene) -> AsyncIterator[Scene]:
    """A scene whose worker runs all the time."""
    load_all()
    async with running_service(scene.settings, REGISTRY):
        yield scene


@pytest.fixture
async def unloading(scene: Scene, make_settings: Callable[..., Settings], tmp_path: Path) -> Scene:
    """A scene with a table `t`, where files may be written."""
    settings = make_settings(
        dl_source_roots=str(tmp_path),
        dl_target_roots=str(tmp_path),
        dl_connections=json.dumps({"shop": direct_dsn(scene.settings)}),
        workers_json=WORKERS,
    )
    await scene.pg.execute(
        "create table t (id bigint primary key, amount numeric(10,2), note text, at timestamptz);"
        f"insert into t select n, n / 3.0, 'note ' || n, to_timestamp(n) from generate_series(1, {ROWS}) n"
    )
    return replace(scene, settings=settings, task="unload.table")
