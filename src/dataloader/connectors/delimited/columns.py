"""Names of columns from what files call them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable

from dataloader.connectors.identifiers import MAX_IDENTIFIER_BYTES

_GAPS = re.compile(r"\W+|_+")


def clean_names(headers: Iterable[str]) -> tuple[str, ...]:
    """Return names for columns: lower case, letters, digits and `_`, each once, none empty or longer than allowed.

    `Trade Date` becomes `trade_date`, `%` and an empty header `column_3` by its place, a second `price` `price_2`. A
    header that is a name already, and the only one of its kind, keeps it: `Price,price` become `price_2,price`.
    """
    headers = tuple(headers)
    kept = {header for header, count in Counter(headers).items() if count == 1 and clean_name(header) == header}
    names: list[str] = []
    for place, header in enumerate(headers, start=1):
        taken = {*names, *kept} - ({header} & kept)
        names.append(_unique(clean_name(header) or f"column_{place}", taken))
    return tuple(names)


def clean_name(header: str) -> str:
    """Return one header as the name of a column; empty if nothing of it can stand in a name."""
    text = unicodedata.normalize("NFKC", header).lower()
    name = _GAPS.sub("_", text).strip("_")
    return _shortened(f"_{name}" if name[:1].isdigit() else name, MAX_IDENTIFIER_BYTES)


def _unique(name: str, taken: Container[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        suffix = f"_{number}"
        candidate, number = _shortened(name, MAX_IDENTIFIER_BYTES - len(suffix)) + suffix, number + 1
    return candidate


def _shortened(name: str, limit_bytes: int) -> str:
    return name.encode()[:limit_bytes].decode(errors="ignore").rstrip("_")
