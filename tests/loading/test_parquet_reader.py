"""Reading Parquet by hand: passing over rows, and files that change meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from dataloader.config import load_settings
from dataloader.connectors.delimited.cutter import Place
from dataloader.connectors.files.access import open_files
from dataloader.connectors.files.source import FileChangedError
from dataloader.connectors.parquet.reader import ParquetReader
from dataloader.exceptions import PermanentError
from dataloader.workers.pipelines.load_file.columnar import open_columnar
from tests.loading.parquet_files import numbers


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[ParquetReader]:
    """Open a file as loads do."""
    files = open_files(load_settings(_env_file=None, dl_source_roots=str(path.parent)))
    async with AsyncExitStack() as stack:
        (file,) = await files.find(str(path), member=None, stack=stack)
        content = await files.open(file, encoding=None)
        layout = await open_columnar(content, files, {}, stack=stack)
        yield await stack.enter_async_context(layout.reader(content, Place(0, 1)))


async def first_number(reader: ParquetReader) -> int:
    """Return the number in the next row, which is read."""
    (block,) = [block async for block in reader.piece(1)]
    return int(block.partition(b"\t")[0])


async def read_on(reader: ParquetReader, how: str) -> None:
    """Read on."""
    match how:
        case "pieces":
            await first_number(reader)
        case _:
            _ = [block async for block in reader.rows(2)]


async def test_rows_that_are_passed_over_are_not_read_later(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(numbers(1_000, groups=4))

    async with opened(path) as reader:
        assert await first_number(reader) == 0
        await reader.skip(1_000)
        passed = reader.place.offset
        assert 1 < passed < 1_000
        assert await first_number(reader) == passed


async def test_what_is_left_of_a_row_group_is_passed_over_with_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(numbers(1_000, groups=4))

    async with opened(path) as reader:
        await reader.skip(3_000)
        first = reader.place
        await reader.skip(8_000)
        third = reader.place
        await reader.skip(1 << 30)

    assert (first, third) == (Place(250, 251), Place(750, 751))
    assert (reader.place, reader.at_end) == (Place(1_000, 1_001), True)


@pytest.mark.parametrize("rest", ["pieces", "rows"])
async def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path, rest: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(numbers(1_000, groups=4))

    async with opened(path) as reader:
        assert await first_number(reader) == 0
        path.write_bytes(numbers(1_000, groups=5))
        with pytest.raises(FileChangedError):
            await read_on(reader, rest)


async def test_an_error_of_a_file_that_has_not_changed_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "f"
    whole = numbers(1_000, groups=4)
    path.write_bytes(whole[:20] + b"\xff" * 3_000 + whole[3_020:])

    async with opened(path) as reader:
        with pytest.raises(PermanentError, match="is damaged"):
            _ = [block async for block in reader.piece(1 << 30)]
