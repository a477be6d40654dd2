"""Reading the Bank of Russia's documents: what is accepted, and that nothing implausible gets through."""

from __future__ import annotations

import contextlib
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloader.exceptions import PermanentError, SourceError
from dataloader.workers.pipelines.cbr.fields import parse_rate
from dataloader.workers.pipelines.cbr.parser import (
    Currency,
    DynamicRate,
    Rate,
    parse_currencies,
    parse_daily,
    parse_dynamic,
)

DAY = date(2025, 4, 1)
OTHERS = "".join(
    f'<Valute ID="R0100{number}"><NumCode>00{number}</NumCode><CharCode>AA{number}</CharCode>'
    f"<Nominal>1</Nominal><Name>Валюта</Name><Value>1,0000</Value></Valute>"
    for number in range(4)
)
MANAT = (
    '<Valute ID="R01020A"><NumCode>051</NumCode><CharCode>AZN</CharCode><Nominal>100</Nominal>'
    "<Name>Азербайджанский манат</Name><Value>21,8342</Value><VunitRate>0,218342</VunitRate></Valute>"
)


def xml(body: str, *, encoding: str = "windows-1251") -> bytes:
    return f'<?xml version="1.0" encoding="{encoding}"?>{body}'.encode(encoding)


def daily(*, day: str = "01.04.2025", manat: str = MANAT, others: str = OTHERS) -> bytes:
    return xml(f'<ValCurs Date="{day}" name="Foreign Currency Market">{manat}{others}</ValCurs>')


def test_a_daily_document_becomes_rates() -> None:
    document = parse_daily(daily(), DAY)

    assert document.rate_date == DAY
    assert len(document.rates) == 5
    assert document.rates[0] == Rate(
        rate_date=DAY,
        char_code="AZN",
        num_code="051",
        cbr_id="R01020A",
        nominal=100,
        name="Азербайджанский манат",
        value=Decimal("21.8342"),
        unit_rate=Decimal("0.218342"),
    )


def test_the_encoding_is_the_one_the_document_declares() -> None:
    document = xml(f'<ValCurs Date="01.04.2025">{MANAT}{OTHERS}</ValCurs>', encoding="utf-8")

    assert parse_daily(document, DAY).rates[0].name == "Азербайджанский манат"


@pytest.mark.parametrize(("value", "unit_rate"), [("21,8342", "0.218342"), ("21,8000", "0.218")])
def test_without_a_unit_rate_it_is_value_by_nominal(value: str, unit_rate: str) -> None:
    manat = MANAT.replace("<VunitRate>0,218342</VunitRate>", "").replace("21,8342", value)

    assert str(parse_daily(daily(manat=manat), DAY).rates[0].unit_rate) == unit_rate


def test_an_unknown_currency_does_not_fail() -> None:
    assert parse_daily(daily(manat=MANAT.replace("AZN", "QQQ")), DAY).rates[0].char_code == "QQQ"


@pytest.mark.parametrize("days", [-31, -2, -1, 0, 1])
def test_the_effective_day_may_differ_from_the_one_asked(days: int) -> None:
    effective = DAY + timedelta(days=days)

    document = parse_daily(daily(day=f"{effective:%d.%m.%Y}"), DAY)

    assert document.rate_date == effective
    assert {rate.rate_date for rate in document.rates} == {effective}


@pytest.mark.parametrize("days", [-4_000, -32, 2, 365])
def test_an_effective_day_too_far_from_the_one_asked_is_refused(days: int) -> None:
    effective = DAY + timedelta(days=days)

    with pytest.raises(SourceError, match=f"{DAY}.*{effective}"):
        parse_daily(daily(day=f"{effective:%d.%m.%Y}"), DAY)


def test_the_day_may_be_written_with_slashes() -> None:
    assert parse_daily(daily(day="01/04/2025"), DAY).rate_date == DAY


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("21,8342", "0,0000"),
        ("21,8342", "-1,0"),
        ("21,8342", "NaN"),
        ("21,8342", "1.5"),
        ("21,8342", "1 000,5"),
        ("21,8342", ""),
        ("21,8342", "&#1635;,5"),
        ("0,218342", "0"),
        ("0,218342", "abc"),
        ("<Nominal>100<", "<Nominal>0<"),
        ("<Nominal>100<", "<Nominal>-1<"),
        ("<Nominal>100<", "<Nominal>1,5<"),
        ("<Nominal>100<", "<Nominal>9000000<"),
        ("<Nominal>100</Nominal>", ""),
        ("AZN", ""),
        ("AZN", "azn"),
        ("AZN", "AZNN"),
        ("<NumCode>051<", "<NumCode>51x<"),
        ("R01020A", ""),
        ("R01020A", "R01 x"),
        ("Азербайджанский манат", " "),
        ("<Value>21,8342</Value>", ""),
    ],
)
def test_one_rate_that_cannot_be_right_refuses_the_day(old: str, new: str) -> None:
    assert old in MANAT

    with pytest.raises(SourceError):
        parse_daily(daily(manat=MANAT.replace(old, new)), DAY)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (b"<!DOCTYPE html><html><body>busy</body></html>", "HTML"),
        (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0//EN" "x"><html/>', "HTML"),
        (b"<html><head></head></html>", "HTML"),
        (b"\n<HTML>", "HTML"),
        (b"Service unavailable", "well-formed"),
        (daily()[:-20], "well-formed"),
        (b"\xff\xfe\x00", "well-formed"),
        (xml("<ValCurs/>").replace(b"windows-1251", b"no-such-code"), "well-formed"),
        (xml("<Valuta/>"), "Valuta"),
        (xml("<ValCurs>Too many requests</ValCurs>"), "Too many requests"),
        (xml("<ValCurs></ValCurs>"), "Date"),
        (xml('<ValCurs Date=""></ValCurs>'), "Date"),
        (daily(day="31.02.2025"), "31.02.2025"),
        (daily(day="2025-04-01"), "2025-04-01"),
        (daily(manat="", others=""), "0 rates"),
        (daily(others=""), "1 rates"),
        (daily(others=OTHERS * 200), "801 rates"),
    ],
)
def test_what_is_no_daily_document_may_pass_later(document: bytes, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        parse_daily(document, DAY)


def test_refused_parameters_never_pass() -> None:
    with pytest.raises(PermanentError, match="Error in parameters"):
        parse_daily(xml("<ValCurs>Error in parameters</ValCurs>"), DAY)


@pytest.mark.parametrize(
    "prolog",
    [
        "<!DOCTYPE ValCurs>",
        '<!DOCTYPE ValCurs SYSTEM "http://169.254.169.254/">',
        '<!DOCTYPE ValCurs [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>',
        '<!DOCTYPE ValCurs [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    ],
)
def test_a_document_with_a_dtd_is_refused_for_good(prolog: str) -> None:
    document = daily().replace(b"<ValCurs", prolog.encode() + b"<ValCurs", 1)

    with pytest.raises(PermanentError, match="refused"):
        parse_daily(document, DAY)


@given(st.decimals(min_value="0.00000001", max_value="999999999999999", places=8))
def test_rates_are_read_exactly(rate: Decimal) -> None:
    assert parse_rate(format(rate, "f").replace(".", ",")) == rate


@given(st.text(max_size=12))
def test_any_other_text_is_a_source_error_and_never_a_crash(text: str) -> None:
    with contextlib.suppress(SourceError):
        assert parse_rate(text) > 0


RECORDS = (
    '<Record Date="11.01.2022" Id="R01235"><Nominal>1</Nominal><Value>75,1315</Value></Record>'
    '<Record Date="12.01.2022" Id="R01235"><Nominal>10</Nominal><Value>74,5277</Value>'
    "<VunitRate>7,45277</VunitRate></Record>"
)
YEAR = (date(2022, 1, 1), date(2022, 12, 31))


def dynamic(records: str = RECORDS, *, cbr_id: str = "R01235") -> bytes:
    ends = 'DateRange1="01.01.2022" DateRange2="31.12.2022"'
    return xml(f'<ValCurs ID="{cbr_id}" {ends} name="Foreign Currency Market Dynamic">{records}</ValCurs>')


def test_a_dynamic_document_becomes_days_in_order() -> None:
    rates = parse_dynamic(dynamic(), cbr_id="R01235", start=YEAR[0], end=YEAR[1])

    assert rates == (
        DynamicRate(date(2022, 1, 11), 1, Decimal("75.1315"), Decimal("75.1315")),
        DynamicRate(date(2022, 1, 12), 10, Decimal("74.5277"), Decimal("7.45277")),
    )


def test_a_range_without_rates_is_a_valid_answer() -> None:
    assert parse_dynamic(dynamic(""), cbr_id="R01235", start=YEAR[0], end=YEAR[1]) == ()


@pytest.mark.parametrize(
    "document",
    [
        dynamic(cbr_id="R01239"),
        dynamic(RECORDS.replace("11.01.2022", "31.12.2021")),
        dynamic(RECORDS.replace("12.01.2022", "01.01.2023")),
        dynamic(RECORDS.replace("75,1315", "0")),
        dynamic(RECORDS.replace("75,1315", "")),
        xml('<ValCurs name="x"></ValCurs>'),
    ],
)
def test_a_dynamic_document_that_is_not_what_was_asked_is_refused(document: bytes) -> None:
    with pytest.raises(SourceError):
        parse_dynamic(document, cbr_id="R01235", start=YEAR[0], end=YEAR[1])


def test_refused_parameters_of_a_range_never_pass() -> None:
    with pytest.raises(PermanentError):
        parse_dynamic(xml("<ValCurs>Error in parameters</ValCurs>"), cbr_id="R01235", start=YEAR[0], end=YEAR[1])


def test_the_list_of_currencies_is_in_order_and_without_padding() -> None:
    document = xml(
        '<Valuta name="Foreign Currency Market Lib">'
        '<Item ID="R01235"><Name>Доллар США</Name><EngName>US Dollar</EngName><Nominal>1</Nominal>'
        "<ParentCode>R01235    </ParentCode></Item>"
        '<Item ID="R01020A"><Name>Азербайджанский манат</Name><EngName>Azerbaijan Manat</EngName>'
        "<Nominal>1</Nominal><ParentCode>R01020    </ParentCode></Item></Valuta>"
    )

    assert parse_currencies(document) == (
        Currency("R01020A", "R01020", "Азербайджанский манат"),
        Currency("R01235", "R01235", "Доллар США"),
    )


def test_an_empty_list_of_currencies_is_refused() -> None:
    with pytest.raises(SourceError):
        parse_currencies(xml("<Valuta></Valuta>"))
