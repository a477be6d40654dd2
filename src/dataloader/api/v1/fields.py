"""Field types that requests share, with their limits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StrictInt, StrictStr
from pydantic_core import to_json

from dataloader.config import NAME_PATTERN

KEY_LIMIT_BYTES = 255
ARGS_LIMIT_BYTES = 1_048_576
BULK_LIMIT = 10_000
LABELS_LIMIT = 64
PAGE_LIMIT = 500
YEAR_S = 31_536_000.0


def _check_plain(value: str) -> str:
    """Refuse what PostgreSQL cannot store as text."""
    if "\x00" in value:
        raise ValueError("must not contain NUL")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must not contain lone surrogates")
    return value


def _check_bytes(value: str) -> str:
    if len(value.encode("utf-8", "surrogatepass")) > KEY_LIMIT_BYTES:
        raise ValueError(f"must be at most {KEY_LIMIT_BYTES} bytes in UTF-8")
    return value


def _check_text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be a text in ISO 8601 with an offset, like 2026-01-31T08:00:00Z")  # noqa: TRY004
    return value


def _check_instant(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie in the years 1 to 9999, in UTC too") from None


def _check_args(value: dict[str, object]) -> dict[str, object]:
    try:
        size = len(to_json(value))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"must be JSON: {error}") from None
    if size > ARGS_LIMIT_BYTES:
        raise ValueError(f"must be at most {ARGS_LIMIT_BYTES} bytes as JSON in UTF-8, are {size}")
    return value


Name = Annotated[StrictStr, Field(pattern=rf"^{NAME_PATTERN}$", examples=["load.cbr"])]
Key = Annotated[
    StrictStr,
    Field(min_length=1, max_length=KEY_LIMIT_BYTES),
    AfterValidator(_check_plain),
    AfterValidator(_check_bytes),
]
LabelName = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_./-]{1,63}$")]
LabelValue = Annotated[
    StrictStr, Field(max_length=KEY_LIMIT_BYTES), AfterValidator(_check_plain), AfterValidator(_check_bytes)
]
Labels = Annotated[dict[LabelName, LabelValue], Field(max_length=LABELS_LIMIT)]
Instant = Annotated[AwareDatetime, BeforeValidator(_check_text), AfterValidator(_check_instant)]
Args = Annotated[dict[str, object], AfterValidator(_check_args)]
Seconds = Annotated[float, Field(gt=0, le=YEAR_S, allow_inf_nan=False, strict=True)]
Priority = Annotated[StrictInt, Field(ge=-32_768, le=32_767)]
Attempts = Annotated[StrictInt, Field(ge=1, le=100)]
