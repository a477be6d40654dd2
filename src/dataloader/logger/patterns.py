"""Secrets recognised in free text by what stands around them; every pattern takes linear time.

Where the end of a value cannot be told, too much is masked rather than too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dataloader.logger.names import STEMS, is_sensitive

MASK = "***"
"""What stands where a secret was."""

_WORD = re.compile(r"[\w.\-]*+")
_URL = re.compile(r"://[^\s\"<>`]+")
_PORT = re.compile(r"\d{1,5}[/?#]")
_BEARER = re.compile(r"(?i)\b(Bearer[ \t]{1,8})[^\s\"',;&]++")
_BASIC = re.compile(r"\b([Bb]asic[ \t]{1,8})(?=[a-z]*+[A-Z0-9+/=])[\w+/=-]{4,}+")
_PEM = re.compile(r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[\s\S]*?(?:-----END [A-Z ]*+-----|(?=-----)|\Z)")
_NAME = re.compile(
    r"""(?<![\w.\-])([\w.\-]++)         # a whole name: tried once, where it starts
    (?: \\*+["']?+[ \t]*+(?:=>|:=|={1,3}+|:)[ \t]*+  # name=value, name: value, "name": value
    |   \\*+["'],[ \t]*+(?=b?["'])      # ('name', 'value')
    |   [ \t]++(?=')                    # PASSWORD 'value', as in SQL
    )""",
    re.VERBOSE,
)
_VALUE = re.compile(
    r"""(?P<open>[bBrRuU]{0,2}")[^"\\]*+(?:\\.[^"\\]*+)*+(?P<close>"?)
    |   (?P<open1>[bBrRuU]{0,2}')[^'\\]*+(?:\\.[^'\\]*+)*+(?P<close1>'?)
    |   (?P<open2>\\+")[^"]*+(?P<close2>"?)
    |   (?P<open3>\\+')[^']*+(?P<close3>'?)
    |   [\[{(][^\]})]*+[\]})]?
    |   (?i:bearer|basic|digest|token|negotiate|apikey)[ \t]++[^\s"',;&]++
    |   [^\s&;"'`]++
    """,
    re.VERBOSE | re.DOTALL,
)
_HEADER = re.compile(r"(?i)(?:authorization|cookie)\\*+[\"']?[ \t]*:[ \t]*$")
_REST_OF_LINE = re.compile(r"[^\s\"'\[{(\\][^\r\n]*+")
_TRAILING = ",.:)]}>"


def mask_text(text: str) -> str:
    """Return `text` without URL passwords, values of sensitive names, authorizations and private keys."""
    if _WORD.fullmatch(text):
        return text
    if "://" in text:
        text = _URL.sub(_mask_url, text)
    lowered = text.lower()
    if any(stem in lowered for stem in STEMS):
        text = "".join(_mask_pairs(_PEM.sub(rf"\1{MASK}", text)))
    if "bearer" in lowered or "basic" in lowered:
        text = _BASIC.sub(rf"\1{MASK}", _BEARER.sub(rf"\1{MASK}", text))
    return text


def _mask_url(match: re.Match[str]) -> str:
    return "://".join(_mask_userinfo(part) for part in match[0].split("://"))


def _mask_userinfo(authority: str) -> str:
    """Mask the password of `user:password@host`; it may contain `@` and `/`, though it should not."""
    userinfo, _, host = authority.rpartition("@")
    user, _, password = userinfo.partition(":")
    if not password or any(mark in user for mark in "/?#") or _PORT.match(password):
        return authority
    return f"{user}:{MASK}@{host}"


def _mask_pairs(text: str) -> Iterator[str]:
    done = 0
    for pair in _NAME.finditer(text):
        if pair.start() < done or not is_sensitive(pair[1]):
            continue
        value = _value_after(pair, text)
        if value is not None:
            yield text[done : pair.end()] + _masked_value(value)
            done = value.end()
    yield text[done:]


def _value_after(pair: re.Match[str], text: str) -> re.Match[str] | None:
    """Find the value of a sensitive name; that of a header reaches to the end of the line."""
    if _HEADER.search(pair[0][-64:]):
        return _REST_OF_LINE.match(text, pair.end()) or _VALUE.match(text, pair.end())
    return _VALUE.match(text, pair.end())


def _masked_value(value: re.Match[str]) -> str:
    """Return the mask between the quotes of the value, or before the punctuation that ends it."""
    quotes = [group for group in value.groupdict().values() if group is not None]
    if quotes:
        opening, closing = quotes
        return f"{opening}{MASK}{opening.lstrip('bBrRuU') if closing else ''}"
    bare = value[0]
    tail = "" if bare[0] in "[{(" else bare[len(bare.rstrip(_TRAILING)) :]
    return tail if tail == bare else f"{MASK}{tail}"
