"""Files that change while they are loaded: rows of two versions are never mixed."""

from __future__ import annotations

import asyncio
import os
import zipfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from dataloader.config import Settings
from dataloader.connectors.files.access import open_files
from dataloader.connectors.files.source import BLOCK_BYTES, FileChangedError, SourceFile
from dataloader.domain.jobs import NewJob
from dataloader.workers.pipelines.registry import REGISTRY, load_all
from tests.loading.scene import Scene, message
from tests.workers.harness import enqueue, eventually, finished, running_service


def _overwrite(path: Path, content: bytes) -> None:
    """Write over a file's bytes in place, as `rsync --inplace` does."""
    with path.open("r+b") as file:
        file.write(content)


@pytest.mark.parametrize("kind", ["plain", "zip"])
async def test_a_block_that_was_written_over_is_not_given(kind: str, tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "f"
    content = os.urandom(3 * BLOCK_BYTES)
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("f.csv", content)
    else:
        path.write_bytes(content)
    async for file in _found(settings, path):
        blocks = file.blocks(0, version=await file.look())
        given = await anext(blocks)

        _overwrite(path, b"x" * 10)

        assert content.startswith(given)
        with pytest.raises(FileChangedError):
            await anext(blocks)
        await blocks.aclose()


async def _found(settings: Settings, path: Path) -> AsyncIterator[SourceFile]:
    access = open_files(settings.model_copy(update={"dl_source_roots": [path.parent]}))
    try:
        async with AsyncExitStack() as stack:
            for file in await access.find(str(path), member=None, stack=stack):
                yield file
    finally:
        await access.close()


@pytest.mark.parametrize("parallel", [1, 2])
async def test_no_row_of_a_file_that_was_written_over_is_loaded(scene: Scene, parallel: int) -> None:
    path = Path(scene.write("f.csv", "v\n" + "old\n" * 2_000_000))
    load_all()
    async with running_service(scene.settings, REGISTRY):
        args = {"table": "t", "source": str(path), "chunk_bytes": 200_000, "parallel": parallel}
        (job_id,) = await enqueue(scene.pg, scene.settings, NewJob("load.file", "load.file", args, max_attempts=1))

        async def has_begun() -> bool:
            return bool(await scene.pg.fetchval("select to_regclass('t') is not null"))

        await eventually(has_begun)
        await asyncio.to_thread(_overwrite, path, b"v\n" + b"new\n" * 2_000_000)
        (job,) = await finished(scene.pg, [job_id])

    assert "changed after its load had begun" in message(job)
    assert await scene.rows("select distinct v from t") == [("old",)]
