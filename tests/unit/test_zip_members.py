"""ZIP archives that lie about themselves or are packed to do harm."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from contextlib import aclosing
from pathlib import Path

import pytest

from dataloader.connectors.files.archive import open_archive
from dataloader.connectors.files.local import LocalFile
from dataloader.connectors.files.unpack import UnpackLimits
from dataloader.exceptions import PermanentError

MIB = 1024 * 1024


def write(path: Path, content: bytes, *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write an archive of one file."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("f.csv", content)
    return path


async def read_only_member(path: Path) -> bytes:
    """Return the content of an archive's only file."""
    (member,) = await open_archive(LocalFile(path), path, pattern=None, limits=UnpackLimits())
    async with aclosing(member.blocks(0, version=await member.look())) as blocks:
        return b"".join([block async for block in blocks])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
async def test_a_member_that_cannot_be_unpacked_piece_by_piece_is_refused_before_it_fills_the_memory(
    tmp_path: Path, method: int
) -> None:
    path = write(tmp_path / "f.zip", b"\n" * (64 * MIB), method=method)
    tracemalloc.start()
    try:
        with pytest.raises(PermanentError, match=f"is packed by method {method}.* pack it with Deflate"):
            await read_only_member(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 8 * MIB


async def test_a_name_that_is_no_text_is_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "f.zip", b"n\n1\n")
    packed = bytearray(path.read_bytes())
    directory = packed.rindex(b"PK\x01\x02")
    packed[directory + 8 : directory + 10] = struct.pack("<H", 0x800)
    packed[directory + 46] = 0xFF
    path.write_bytes(packed)

    with pytest.raises(PermanentError, match="is a damaged archive"):
        await read_only_member(path)


async def test_a_directory_of_millions_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    content = write(tmp_path / "f.zip", b"n\n1\n").read_bytes()
    directory, end = content.rindex(b"PK\x01\x02"), content.rindex(b"PK\x05\x06")
    many = content[directory:end] * 400_000
    last = bytearray(content[end:])
    last[12:16] = struct.pack("<I", len(many))
    (tmp_path / "f.zip").write_bytes(content[:directory] + many + last)
    tracemalloc.start()
    try:
        with pytest.raises(PermanentError, match="holds more than 10000 files"):
            await read_only_member(tmp_path / "f.zip")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 8 * MIB
