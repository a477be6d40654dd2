"""Addresses of sources: what may be fetched, and how an address is shown to people."""

from __future__ import annotations

import re
from collections.abc import Mapping

from yarl import URL

from dataloader.exceptions import PermanentError

_HIDDEN = "***"
_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|bearer|jwt|credential|signature|auth|session|api[-_]?key|access[-_]?key|^(key|sig|code)$",
    re.IGNORECASE,
)


_NO_PASSWORDS = frozenset({None, "", "x-oauth-basic"})
"""What stands in the place of a password where the name is the secret, as hosts of code take tokens."""


def parse_url(url: str, params: Mapping[str, str] | None = None) -> URL:
    """Return the address with `params` added to its query.

    Raises:
        PermanentError: It is not an absolute http or https address.
    """
    try:
        parsed = URL(url)
        usable = parsed.scheme in {"http", "https"} and bool(parsed.host)
    except ValueError:
        usable = False
    if not usable:
        raise PermanentError("only absolute http and https addresses can be fetched")
    return parsed.extend_query(params) if params else parsed


def show_url(url: URL) -> str:
    """Return the address for messages: no password, no fragment, values of secret-looking names hidden.

    A name without a password is hidden, too: it is a token.
    """
    shown = url.with_fragment(None)
    if shown.user is not None and shown.password in _NO_PASSWORDS:
        shown = shown.with_user(_HIDDEN)
    if shown.password is not None:
        shown = shown.with_password(_HIDDEN)
    pairs = [(name, _HIDDEN if _SECRET_NAME.search(name) else value) for name, value in shown.query.items()]
    return shown.with_query(pairs).human_repr()
