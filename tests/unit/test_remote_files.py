"""Files behind HTTP, without a load around them: versions, ranges, encodings, redirects."""

from __future__ import annotations

import asyncio
import gzip
import io
import zipfile
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

import pytest
from yarl import URL

from dataloader.connectors.files import FileAccess, FileVersion, Reach, SourceFile
from dataloader.connectors.files.remote import Patience, RemoteFile, RemoteSession
from dataloader.connectors.files.source import FileChangedError
from dataloader.connectors.retry import Backoff, TransientSourceError
from dataloader.exceptions import PermanentError, SourceError
from tests.loading.web import Web, serving

ROWS = 40_000
BODY = b"n,text\n" + b"".join(b"%d,row %d\n" % (n, n) for n in range(ROWS))

AT_ONCE = Backoff(initial_s=0, max_s=0, jitter_s=0)


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with serving(Web(BODY)) as server:
        yield server


@pytest.fixture
async def access() -> AsyncIterator[FileAccess]:
    reach = Reach(hosts=("127.0.0.1",))
    access = FileAccess(RemoteSession(reach, backoff=AT_ONCE))
    yield access
    await access.close()


async def read(file: SourceFile, offset: int = 0, *, version: FileVersion | None = None) -> bytes:
    """Return what is in a file from an offset on."""
    async with aclosing(file.blocks(offset, version=version or await file.look())) as blocks:
        return b"".join([block async for block in blocks])


def zipped(content: bytes) -> bytes:
    """Return an archive of one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("f.csv", content)
    return buffer.getvalue()


async def test_an_archive_that_changes_once_it_is_copied_is_the_version_of_the_copy(
    access: FileAccess, web: Web
) -> None:
    web.body = zipped(BODY)
    async with AsyncExitStack() as stack:
        (member,) = await access.find(f"{web.url}/file", member=None, stack=stack)
        before = await member.look()
        web.body, web.etag = zipped(BODY.replace(b"row", b"ROW")), '"v2"'

        assert await read(member) == BODY
        assert await member.look() == before
        (changed,) = await access.find(f"{web.url}/file", member=None, stack=stack)
        assert await changed.look() != before


async def test_an_archive_of_another_length_is_another_version_even_if_its_server_names_none(
    access: FileAccess, web: Web
) -> None:
    web.etag, versions = None, []
    async with AsyncExitStack() as stack:
        for content in (BODY, BODY[:1_000]):
            web.body = zipped(content)
            (member,) = await access.find(f"{web.url}/file", member=None, stack=stack)
            versions.append(await member.look())

    assert versions[0] != versions[1]


async def test_a_file_that_is_stored_packed_is_read_from_any_place(access: FileAccess, web: Web) -> None:
    web.body, web.encoding = gzip.compress(BODY), "gzip"
    async with AsyncExitStack() as stack:
        (file,) = await access.find(f"{web.url}/file", member=None, stack=stack)
        content = await access.open(file, encoding=None)
        web.cut_after = 50_000
        async with aclosing(content.blocks(300_000)) as blocks:
            rest = b"".join([block async for block in blocks])

    assert rest == BODY[300_000:]
    assert any(asked for asked in web.asked)


async def test_a_file_packed_in_a_way_that_nobody_asked_for_is_refused(access: FileAccess, web: Web) -> None:
    web.body, web.encoding = zlib.compress(BODY), "deflate"

    with pytest.raises(PermanentError, match="answered with Content-Encoding 'deflate', which is not read"):
        await RemoteFile(access.session, URL(f"{web.url}/file")).look()


async def test_bytes_beyond_what_a_server_says_are_not_taken(access: FileAccess, web: Web) -> None:
    file = RemoteFile(access.session, URL(f"{web.url}/file"))
    version = await file.look()
    web.chunked, web.surplus = True, b"999,too much\n"

    with pytest.raises(SourceError, match=f"sends more than the {len(BODY)} bytes"):
        await read(file, 10, version=version)


async def test_a_redirect_on_the_same_host_keeps_who_asks_and_one_to_another_does_not(
    access: FileAccess, web: Web
) -> None:
    address = web.url.replace("http://", "http://user:hunter2@")
    await RemoteFile(access.session, URL(f"{address}/redirect?to=/file")).look()
    await RemoteFile(access.session, URL(f"{address}/redirect?to={web.url}/file")).look()
    async with serving(Web(BODY)) as other:
        await RemoteFile(access.session, URL(f"{address}/redirect?to={other.url}/file")).look()

    assert [who is not None for who in web.who] == [True, True]
    assert other.who == [None]


async def test_a_host_that_is_too_long_to_be_one_is_refused(access: FileAccess) -> None:
    access.session.reach = Reach()

    with pytest.raises(PermanentError, match="is not an address that can be fetched"):
        await RemoteFile(access.session, URL(f"http://{'a' * 64}.example/f.csv")).look()


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (HEAD, b"X: more\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nX: more\r\n\r\n"),
        (CHUNKED, b"0" * 1_000),
        (CHUNKED + b"1;", b"a" * 1_000),
    ],
    ids=["headers", "hints", "the size of a chunk", "an extension of a chunk"],
)
async def test_a_server_that_talks_without_end_and_says_nothing_is_left(first: bytes, then: bytes) -> None:
    patience = Patience(connect_s=2, read_s=0.3, answer_s=0.3)
    session = RemoteSession(Reach(hosts=("127.0.0.1",)), backoff=AT_ONCE, patience=patience)
    async with talking(first, then) as url:
        file = RemoteFile(session, url)
        with pytest.raises(TransientSourceError, match=r"was not answered within 0.3 s|sent nothing for 0.3 s"):
            await asyncio.wait_for(read(file), 20)
        await session.close()


@asynccontextmanager
async def talking(first: bytes, then: bytes) -> AsyncIterator[URL]:
    """Serve an answer that begins so and goes on so for ever, faster than anybody would call it silent."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.current_task())
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while not over.is_set():
                writer.write(then)
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    talks: list[asyncio.Task[None] | None] = []
    over = asyncio.Event()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield URL(f"http://{host}:{port}/f.csv")
        over.set()
        await asyncio.gather(*filter(None, talks))


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_server_that_names_no_version_has_another_one_if_the_file_begins_otherwise(
    access: FileAccess, web: Web, chunked: bool
) -> None:
    web.etag, web.chunked = None, chunked
    file = RemoteFile(access.session, URL(f"{web.url}/file"))
    before = await file.look()

    assert await file.look() == before
    assert await read(file, 300_000, version=before) == BODY[300_000:]
    web.body = BODY.replace(b"0,row 0\n1,row 1\n", b"1,row 1\n0,row 0\n")
    assert await file.look() != before


async def test_a_server_that_begins_to_name_versions_has_another_one(access: FileAccess, web: Web) -> None:
    web.etag = None
    file = RemoteFile(access.session, URL(f"{web.url}/file"))
    before = await file.look()
    web.etag = '"v1"'

    with pytest.raises(FileChangedError):
        await read(file, 10, version=before)


async def test_an_archive_that_is_named_twice_is_the_same_file(access: FileAccess, web: Web) -> None:
    web.body = zipped(BODY)
    async with AsyncExitStack() as stack:
        (once,) = await access.find(f"{web.url}/file", member=None, stack=stack)
        (twice,) = await access.find(f"{web.url}/file", member=None, stack=stack)
        (other,) = await access.find(f"{web.url}/file?other", member=None, stack=stack)

    assert len({once, twice}) == 1
    assert len({once, other}) == 2
