"""Reading the Bank of Russia's XML: a checked root, and texts as days, numbers and codes."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from dataloader.exceptions import PermanentError, SourceError

MAX_NOMINAL = 1_000_000

_HTML = re.compile(rb"<!doctype\s+html|<html[\s>]", re.IGNORECASE)
_HTML_WITHIN_BYTES = 1_024
_DAY = re.compile(r"([0-9]{2})[./]([0-9]{2})[./]([0-9]{4})")
_NUMBER = re.compile(r"[0-9]{1,15}(?:,[0-9]{1,15})?")
_NOMINAL = re.compile(r"[0-9]{1,7}")


def parse_root(document: bytes, tag: str) -> Element:
    """Return the root element of a document, which declares its own encoding.

    Raises:
        SourceError: It is empty, broken, or a page about something else.
        PermanentError: It brings a DTD or entities, or says that the question was wrong.
    """
    if not document.strip():
        raise SourceError("the Bank of Russia answered with an empty document")
    if _HTML.search(document[:_HTML_WITHIN_BYTES]):
        raise SourceError("the Bank of Russia answered with an HTML page instead of XML")
    try:
        root = fromstring(document, forbid_dtd=True)
    except DefusedXmlException as error:
        raise PermanentError(f"the document is refused: {type(error).__name__}") from None
    except (ParseError, LookupError, ValueError) as error:
        raise SourceError(f"the Bank of Russia's answer is not well-formed XML: {error}") from None
    _check_root(root, tag)
    return root


def _check_root(root: Element, tag: str) -> None:
    said = (root.text or "").strip()
    if root.tag == "ValCurs" and not len(root) and said:
        if "parameter" in said.lower():
            raise PermanentError(f"the Bank of Russia refused the question: {said[:200]}")
        raise SourceError(f"the Bank of Russia answered with an error: {said[:200]}")
    if root.tag != tag:
        raise SourceError(f"the Bank of Russia answered with <{root.tag[:50]}> instead of <{tag}>")


def read_text(element: Element, tag: str) -> str:
    """Return the text of a child without the space around it.

    Raises:
        SourceError: The child is missing or empty.
    """
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise SourceError(f"a <{element.tag}> has no {tag}")
    return text


def read_attribute(element: Element, name: str) -> str:
    """Return an attribute without the space around it.

    Raises:
        SourceError: It is missing or empty.
    """
    text = element.get(name, "").strip()
    if not text:
        raise SourceError(f"a <{element.tag}> has no {name}")
    return text


def parse_day(text: str) -> dt.date:
    """Read a day written as 31.12.2024 or 31/12/2024.

    Raises:
        SourceError: It is not one.
    """
    match = _DAY.fullmatch(text)
    try:
        if match is not None:
            return dt.date(int(match[3]), int(match[2]), int(match[1]))
    except ValueError:
        pass
    raise SourceError(f"{text[:40]!r} is not a day")


def parse_rate(text: str) -> Decimal:
    """Read a number above zero with a decimal comma.

    Raises:
        SourceError: It is not one, or is zero.
    """
    if not _NUMBER.fullmatch(text):
        raise SourceError(f"{text[:40]!r} is not a rate")
    rate = Decimal(text.replace(",", "."))
    if not rate:
        raise SourceError("a rate is zero")
    return rate


def parse_nominal(text: str) -> int:
    """Read how many units of a currency a rate is for.

    Raises:
        SourceError: It is not a whole number from one to `MAX_NOMINAL`.
    """
    nominal = int(text) if _NOMINAL.fullmatch(text) else 0
    if not 1 <= nominal <= MAX_NOMINAL:
        raise SourceError(f"{text[:40]!r} is not a nominal")
    return nominal


def read_amount(element: Element) -> tuple[int, Decimal, Decimal]:
    """Return nominal, value and the rate of one unit; where that is not given, `value / nominal` in its form."""
    nominal = parse_nominal(read_text(element, "Nominal"))
    value = parse_rate(read_text(element, "Value"))
    unit = (element.findtext("VunitRate") or "").strip()
    return nominal, value, parse_rate(unit) if unit else (value / nominal).normalize()
