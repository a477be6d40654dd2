"""Which names announce a secret."""

from __future__ import annotations

import re
from functools import lru_cache

STEMS = ("pass", "pwd", "secret", "credential", "token", "auth", "cookie", "dsn", "key", "sess", "sig")
"""Every sensitive name contains one of these; a text without them needs no closer look."""

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_JOINT = re.compile(r"[^a-z0-9]+")
_LONGEST = 128

_ANYWHERE = r"passw(?:or)?d|(?:^|_)(?:pwd|passphrase|secrets?|credentials?|dsn)(?:_|$)"
_KEY = r"(?:api|private|access|account|auth|signing|signature|encryption|master|session|ssh)_?keys?"
_AT_THE_END = (
    rf"(?:{_KEY}|(?:access|refresh|auth|bearer|csrf|id)?tokens?|auth|authorization|cookies?"
    r"|j?session(?:_?id)?|phpsessid|sig|amz_signature|(?<=_)pass)(?:_(?:value|header|pem))?"
)
_SENSITIVE = re.compile(rf"{_ANYWHERE}|(?:^|_){_AT_THE_END}$")


def is_sensitive(name: str) -> bool:
    """Return whether what stands under `name` must not be shown.

    A password, secret, credential or DSN counts anywhere in the name; a token, key, cookie or session
    only where the name ends with it, so that `token_count` and `session_timeout` stay readable.
    """
    return _is_sensitive(name[-_LONGEST:])


@lru_cache(maxsize=4096)
def _is_sensitive(name: str) -> bool:
    return _SENSITIVE.search(_JOINT.sub("_", _HUMP.sub("_", name).lower()).strip("_")) is not None
