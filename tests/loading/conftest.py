"""Fixtures of the loading tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dataloader.config import Settings
from dataloader.storage.db import Connection
from tests.loading.scene import Scene


@pytest.fixture
def scene(make_settings: Callable[..., Settings], pg: Connection, tmp_path: Path) -> Scene:
    """A folder that loads may read, and a database."""
    workers = '[{"queue": "load.file", "concurrency": 2}]'
    return Scene(tmp_path, make_settings(dl_source_roots=str(tmp_path), workers_json=workers), pg)
