"""Questions to the exchange, against a stand-in of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import date

import pytest

from dataloader.config import load_settings
from dataloader.connectors.http import HttpClient
from dataloader.connectors.retry import Backoff
from dataloader.exceptions import PermanentError, SettingsError, SourceError
from dataloader.testing.sgx_source import SgxStub
from dataloader.workers.pipelines.sgx.parser import Session
from dataloader.workers.pipelines.sgx.source import SgxSource

LAST = date(2026, 7, 16)


@pytest.fixture
async def exchange() -> AsyncIterator[SgxStub]:
    async with SgxStub(LAST) as stub:
        yield stub


@pytest.fixture
async def source(exchange: SgxStub) -> AsyncIterator[SgxSource]:
    async with HttpClient(backoff=Backoff(initial_s=0, max_s=0, jitter_s=0)) as http:
        yield SgxSource(http, exchange.base_url, exchange.feed_url)


async def test_a_key_stands_for_the_session_in_its_file(exchange: SgxStub, source: SgxSource) -> None:
    session = await source.session(exchange.key_of(LAST))

    assert session is not None
    assert (session.day, len(session.quotes)) == (LAST, 3)


@pytest.mark.parametrize("status", [None, 404])
async def test_a_missing_key_has_no_session(exchange: SgxStub, source: SgxSource, status: int | None) -> None:
    if status is not None:
        exchange.statuses[9_999] = status

    assert await source.session(9_999) is None
    assert exchange.asked[9_999] == 1


async def test_a_busy_exchange_is_asked_again_and_fails_in_the_end(exchange: SgxStub, source: SgxSource) -> None:
    exchange.statuses[5331] = 503

    with pytest.raises(SourceError, match="503"):
        await source.session(5331)
    assert exchange.asked[5331] == 4


async def test_a_refusal_is_permanent(exchange: SgxStub, source: SgxSource) -> None:
    exchange.statuses[5331] = 410

    with pytest.raises(PermanentError):
        await source.session(5331)


async def test_a_file_that_cannot_be_used_is_named_by_its_key(exchange: SgxStub, source: SgxSource) -> None:
    exchange.bodies[5331] = b"PK\x03\x04 and nothing else"

    with pytest.raises(SourceError, match="key 5331: the exchange's archive is damaged"):
        await source.session(5331)


async def test_an_archive_beyond_the_limit_is_not_read_to_its_end(exchange: SgxStub, source: SgxSource) -> None:
    exchange.bodies[5331] = b"PK\x03\x04" + bytes(17 * 1024 * 1024)

    with pytest.raises(PermanentError, match="more than"):
        await source.session(5331)


async def test_a_kept_session_is_handed_out_once_and_only_the_nearest_are_kept(
    exchange: SgxStub, source: SgxSource
) -> None:
    for key in range(7_000, 7_020):
        source.keep(key, Session(LAST, ()))

    assert await source.session(7_007) == Session(LAST, ())
    assert not exchange.asked
    await source.session(7_007)
    await source.session(7_008)
    assert exchange.asked == {7_007: 1, 7_008: 1}


async def test_the_newest_days_are_those_the_exchange_lists(exchange: SgxStub, source: SgxSource) -> None:
    newest = await source.newest()

    assert len(newest) == 60
    assert newest[LAST] == exchange.key_of(LAST)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html></html>",
        b"\xff",
        b"[]",
        b"{}",
        b'{"items": null}',
        b'{"items": [1]}',
        b"[" * 100_000,
        json.dumps({"items": [{"key": "7556", "Trade Date": None}]}).encode(),
        json.dumps({"items": [{"key": "7556", "Trade Date": "31 Feb 2026"}]}).encode(),
        json.dumps({"items": [{"key": "7556", "Trade Date": "16 Foo 2026"}]}).encode(),
        json.dumps({"items": [{"key": "-1", "Trade Date": "16 Jul 2026"}]}).encode(),
        json.dumps({"items": [{"key": None, "Trade Date": "16 Jul 2026"}]}).encode(),
    ],
)
async def test_a_list_that_is_none_is_a_source_error(exchange: SgxStub, source: SgxSource, document: bytes) -> None:
    exchange.feed_body = document

    with pytest.raises(SourceError, match="cannot be read"):
        await source.newest()


@pytest.mark.parametrize("name", ["dl_sgx_base_url", "dl_sgx_feed_url"])
def test_an_address_that_is_no_url_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name.upper()}: must be an http or https URL"):
        load_settings(_env_file=None, **{name: "links.sgx.com"})
