"""The exchange's files: what is read of them, and what is refused."""

from __future__ import annotations

import datetime as dt
import io
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloader.exceptions import SourceError
from dataloader.testing.sgx_source import HEADER, HTML, session_archive, session_text, zipped
from dataloader.workers.pipelines.sgx.archive import MAX_BYTES, unpack
from dataloader.workers.pipelines.sgx.parser import Quote, parse_session

DAY = dt.date(2026, 7, 16)
LINE = "20260716,NK   ,09,2026,68850,68865,66585,67005.5,67005,27189,49260,NKU26"
MIB = 1024 * 1024


def session(*lines: str) -> bytes:
    return zipped("0716FUT.csv", "".join(f"{line}\r\n" for line in (HEADER, *lines)))


def only_quote(line: str) -> Quote:
    found = parse_session(session(line))
    assert found is not None
    (quote,) = found.quotes
    return quote


def several() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("0716FUT.csv", HEADER)
        archive.writestr("0717FUT.csv", HEADER)
    return buffer.getvalue()


def empty() -> bytes:
    """Return an archive without members, after a name for the magic to be right."""
    buffer = io.BytesIO(b"PK\x03\x04")
    with zipfile.ZipFile(buffer, "a"):
        pass
    return buffer.getvalue()


def encrypted() -> bytes:
    """Return an archive whose directory says that its member is encrypted."""
    document = bytearray(session(LINE))
    document[document.index(b"PK\x01\x02") + 8] |= 1
    return bytes(document)


def lying(size: int) -> bytes:
    """Return an archive of 100 MiB of zeros whose headers give another size."""
    document = bytearray(zipped("0716FUT.csv", "0" * (100 * MIB)))
    document[22:26] = struct.pack("<I", size)
    place = document.index(b"PK\x01\x02")
    document[place + 24 : place + 28] = struct.pack("<I", size)
    return bytes(document)


def test_a_row_is_read_into_a_quote() -> None:
    assert parse_session(session(LINE)) is not None
    assert only_quote(LINE) == Quote(
        trade_date=DAY,
        series="NKU26",
        com="NK",
        contract_month=9,
        contract_year=2026,
        open=Decimal(68850),
        high=Decimal(68865),
        low=Decimal(66585),
        close=Decimal("67005.5"),
        settle=Decimal(67005),
        volume=27189,
        open_interest=49260,
    )


@pytest.mark.parametrize("name", ["0716FUT.csv", "0716FUT.txt"])
def test_what_did_not_trade_has_no_prices_and_a_settlement_of_zero_is_none(name: str) -> None:
    found = parse_session(zipped(name, session_text(DAY)))

    assert found is not None
    quotes = {quote.series: quote for quote in found.quotes}
    assert found.day == DAY
    assert (quotes["1MFN26"].open, quotes["1MFN26"].close, quotes["1MFN26"].settle) == (None, None, Decimal("486.26"))
    assert (quotes["FEFQ26"].settle, quotes["FEFQ26"].volume) == (None, 0)


@pytest.mark.parametrize(("written", "read"), [("0", None), ("0.000", None), ("", None), ("-0.35", Decimal("-0.35"))])
def test_a_settlement_of_zero_in_any_form_is_none_and_a_negative_one_is_kept(
    written: str, read: Decimal | None
) -> None:
    assert only_quote(LINE.replace(",67005,", f",{written},")).settle == read


def test_a_price_keeps_every_digit() -> None:
    price = only_quote(LINE.replace("67005.5", "0.100000000001")).close

    assert str(price) == "0.100000000001"


def test_lines_may_end_without_a_carriage_return_and_blank_ones_are_passed_over() -> None:
    found = parse_session(zipped("0716FUT.csv", f"{HEADER}\n{LINE}\n\n"))

    assert found is not None
    assert len(found.quotes) == 1


@pytest.mark.parametrize("document", [HTML, b"", b"PK", b"\r\n<html>"])
def test_a_page_instead_of_a_file_is_none(document: bytes) -> None:
    assert parse_session(document) is None


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((HEADER.replace("SETTLE", "SETTLEMENT"), LINE), "row 1, column SETTLE: .*SETTLEMENT"),
        ((HEADER.replace(",", "\t"), LINE), "row 1, column DATE"),
        ((HEADER.removesuffix(",SERIES"), LINE), "row 1, column SERIES"),
        ((f"{HEADER},NOTE", f"{LINE},x"), "row 1, column SERIES"),
        ((), "row 1, column DATE"),
        ((HEADER,), "has no rows"),
        (
            (HEADER, LINE, LINE.replace("20260716", "20260717")),
            "row 3, column DATE: '20260717' in a file of 2026-07-16",
        ),
        ((HEADER, LINE, f"{LINE},1"), "row 3: 13 fields, more follows column SERIES"),
        ((HEADER, LINE.removesuffix(",49260,NKU26")), "row 2: 10 fields, column OINT is missing"),
        ((HEADER, "," * 11), "row 2, column DATE: ''"),
        ((HEADER, LINE, LINE.replace("27189", "many")), "row 3, column VOLUME: 'many'"),
        ((HEADER, LINE.replace("27189", "-1")), "row 2, column VOLUME"),
        ((HEADER, LINE.replace("68850", "6_8850")), "row 2, column OPEN"),
        ((HEADER, LINE.replace("68850", "NaN")), "row 2, column OPEN"),
        ((HEADER, LINE.replace("68850", "1e5")), "row 2, column OPEN"),
        ((HEADER, LINE.replace("68850", "\u0661")), "row 2, column OPEN"),
        ((HEADER, LINE.replace("20260716", "20261316")), "row 2, column DATE"),
        ((HEADER, LINE.replace(",09,", ",13,")), "row 2, column COM_MM"),
        ((HEADER, LINE.replace(",09,", ",00,")), "row 2, column COM_MM"),
        ((HEADER, LINE.replace(",2026,", ",99999,")), "row 2, column COM_YY"),
        ((HEADER, LINE.replace("NKU26", "  ")), "row 2, column SERIES"),
        ((HEADER, LINE.replace("NKU26", "NK\0U26")), "row 2, column SERIES"),
        ((HEADER, LINE.replace("NK   ", "     ")), "row 2, column COM"),
    ],
)
def test_a_content_that_is_not_as_it_should_be_is_refused_with_row_and_column(
    lines: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(SourceError, match=reason):
        parse_session(zipped("0716FUT.csv", "".join(f"{line}\r\n" for line in lines)))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (session(LINE)[:60], "damaged"),
        (session(LINE).replace(b"0716FUT", b"0717FUT", 1), "damaged"),
        (empty(), "holds 0 files"),
        (several(), "holds 2 files"),
        (encrypted(), "is encrypted"),
        (zipped("0716FUT.csv", HEADER, method=zipfile.ZIP_BZIP2), "compressed by method 12"),
        (zipped("0716FUT.csv", HEADER, method=zipfile.ZIP_LZMA), "compressed by method 14"),
        (zipped("0716FUT.csv", "0" * MIB), "unpacks to more than"),
        (zipped("0716FUT.csv", f"{HEADER}\n" + "x" * 200_000, method=zipfile.ZIP_STORED), "not CSV"),
    ],
    ids=["cut", "renamed", "empty", "several", "encrypted", "bzip2", "lzma", "bomb", "no records"],
)
def test_an_archive_that_is_not_as_it_should_be_is_refused(document: bytes, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        parse_session(document)


def test_bytes_that_are_no_text_are_refused() -> None:
    text = f"{HEADER}\r\n{LINE}\r\n".encode().replace(b"NKU26", b"NK\xff26")

    with pytest.raises(SourceError, match="not text"):
        parse_session(zipped("0716FUT.csv", text))


def test_an_archive_that_would_unpack_to_more_than_the_limit_is_refused_though_its_ratio_is_sane() -> None:
    with pytest.raises(SourceError, match=f"more than {MAX_BYTES} bytes"):
        unpack(zipped("0716FUT.csv", "0" * (MAX_BYTES + 1), method=zipfile.ZIP_STORED))


@pytest.mark.parametrize("size", [10, 100 * MIB])
def test_the_size_in_the_header_is_not_believed(size: int) -> None:
    document = lying(size)

    tracemalloc.start()
    with pytest.raises(SourceError):
        unpack(document)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak_bytes < MAX_BYTES


@given(st.lists(st.tuples(st.integers(4, 400), st.integers(0, 255)), max_size=4))
def test_a_damaged_archive_is_read_or_refused_and_nothing_else(changes: list[tuple[int, int]]) -> None:
    document = bytearray(session_archive(DAY))
    for place, value in changes:
        document[place % (len(document) - 4) + 4] = value

    with suppress(SourceError):
        parse_session(bytes(document))
