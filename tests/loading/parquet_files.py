"""Parquet files as they come, and as they should not."""

from __future__ import annotations

import datetime as dt
import io
import struct
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MAGIC = b"PAR1"
NOON = dt.datetime(2026, 1, 31, 12, 0, 0, 123456)  # noqa: DTZ001 - of a column without zone


def parquet(table: pa.Table, **how: Any) -> bytes:
    """Return a table as a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **how)
    return buffer.getvalue()


def numbers(count: int, *, groups: int) -> bytes:
    """Return a file of numbers and texts in several row groups."""
    table = pa.table({"n": range(count), "text": [f"row\n{n}" for n in range(count)]})
    return parquet(table, row_group_size=max(count // groups, 1))


def one(kind: pa.DataType, *values: object, **how: Any) -> bytes:
    """Return a file of one column."""
    return parquet(pa.table({"v": pa.array(values, kind)}), **how)


def sound() -> Iterator[tuple[str, bytes, tuple[tuple[str | None, ...], ...], dict[str, object]]]:
    """Yield files that load: a name, the file, the rows as text, how it is loaded."""
    rows: tuple[tuple[str | None, ...], ...] = (("1", "a"), ("2", None))
    plain = pa.table({"n": [1, 2], "t": ["a", None]})
    for packing in ("none", "snappy", "gzip", "brotli", "lz4", "zstd"):
        yield f"Parquet of {packing}", parquet(plain, compression=packing), rows, {}
    yield "Parquet of version 1", parquet(plain, version="1.0", data_page_version="1.0"), rows, {}
    yield "Parquet with pages of version 2", parquet(plain, data_page_version="2.0"), rows, {}
    yield "Parquet without dictionaries", parquet(plain, use_dictionary=False), rows, {}
    yield "Parquet of deltas", parquet(plain, use_dictionary=False, column_encoding="PLAIN"), rows, {}
    yield "Parquet, a row per group", parquet(plain, row_group_size=1), rows, {}
    yield "Parquet with an empty row group", with_empty_group(plain), rows, {}
    yield "Parquet with checksums", parquet(plain, write_page_checksum=True), rows, {}
    yield "Parquet without rows, allowed", parquet(plain.slice(0, 0)), (), {"min_rows": 0}
    yield (
        "Parquet of instants of old",
        parquet(pa.table({"v": pa.array([NOON])}), use_deprecated_int96_timestamps=True),
        ((NOON.isoformat(" "),),),
        {},
    )
    yield (
        "Parquet of nanoseconds",
        one(pa.timestamp("ns"), 1_500, 2_499, -1_500, None),
        (
            ("1970-01-01 00:00:00.000002",),
            ("1970-01-01 00:00:00.000002",),
            ("1969-12-31 23:59:59.999998",),
            (None,),
        ),
        {},
    )
    yield "Parquet of the first day", one(pa.date32(), -2_440_588), (("4714-11-24 BC",),), {}
    yield "Parquet of the last day", one(pa.date32(), 2_145_042_905), (("5874897-12-31",),), {}
    far = {
        "n": pa.array([Decimal("1.50"), None]),
        "day": pa.array([-719_163, 2_932_897], pa.date32()),
        "at": pa.array([-62_135_596_800_000_001, 2**63 - 1], pa.timestamp("us", "UTC")),
    }
    yield (
        "Parquet of days far away beside decimals",
        parquet(pa.table(far)),
        (
            ("1.50", "0001-12-31 BC", "0001-12-31 23:59:59.999999+00 BC"),
            (None, "10000-01-01", "294247-01-10 04:00:54.775807+00"),
        ),
        {},
    )
    yield "Parquet of the edges", one(pa.int64(), -(2**63), 2**63 - 1), ((str(-(2**63)),), (str(2**63 - 1),)), {}
    yield (
        "Parquet of no number",
        one(pa.float64(), float("nan"), float("inf"), -0.0),
        (("NaN",), ("Infinity",), ("-0",)),
        {},
    )
    yield "Parquet of nothing but null", one(pa.null(), None, None), ((None,), (None,)), {}
    yield "Parquet of a column without a name", parquet(pa.table({"": [1]})), (("1",),), {}
    wide = pa.table({f"c{number}": [number] for number in range(1_000)})
    yield "Parquet of 1,000 columns", parquet(wide), (tuple(str(number) for number in range(1_000)),), {}
    yield "Parquet of a long text", one(pa.string(), "x" * 3_000_000), (("x" * 3_000_000,),), {}
    deep: Any = [1]
    for _ in range(30):
        deep = [deep]
    yield "Parquet of a deep list", parquet(pa.table({"v": [deep]})), (("[" * 31 + "1" + "]" * 31,),), {}
    yield (
        "Parquet into types of a table",
        parquet(plain),
        (("1.00", "a"), ("2.00", None)),
        {"columns": {"n": "numeric(9,2)"}},
    )
    mixed = parquet(pa.table({"n": ["1", "x", "3"]}))
    yield "Parquet with a row to reject", mixed, (("1",), ("3",)), {"columns": {"n": "integer"}, "on_error": "reject"}


def unsound() -> Iterator[tuple[str, bytes, str, dict[str, object]]]:
    """Yield files that do not load: a name, the file, part of the reason, how it is loaded."""
    whole = numbers(500, groups=2)
    size = struct.unpack("<i", whole[-8:-4])[0]
    head, footer = whole[: -8 - size], whole[-8 - size : -8]
    damaged = "is damaged, or Parquet of a kind that cannot be read"
    yield "Parquet, only its mark", MAGIC, damaged, {}
    yield "Parquet, only its marks", MAGIC + bytes(4) + MAGIC, damaged, {}
    yield "Parquet cut short", whole[: len(whole) // 2], damaged, {}
    yield "Parquet without its last byte", whole[:-1], damaged, {}
    yield "Parquet and garbage", whole + b"garbage", damaged, {}
    yield "Parquet whose footer is longer than it", head + footer + struct.pack("<i", 2**31 - 1) + MAGIC, damaged, {}
    yield "Parquet whose footer is negative", head + footer + struct.pack("<i", -1) + MAGIC, damaged, {}
    yield "Parquet with half a footer", head + footer[: size // 2] + struct.pack("<i", size // 2) + MAGIC, damaged, {}
    yield "Parquet whose footer is noise", head + b"\x8f" * size + struct.pack("<i", size) + MAGIC, damaged, {}
    yield "Parquet without its pages", MAGIC + bytes(len(head) - 4) + whole[len(head) :], damaged, {}
    yield "Parquet that is encrypted", MAGIC + whole[4:-4] + b"PARE", damaged, {}
    yield "Parquet without columns", parquet(pa.table({}).select([])), "has no columns", {}
    yield "Parquet without rows", parquet(pa.table({"n": pa.array([], pa.int64())})), "0 rows came", {}
    yield "Parquet that is none", b"n\n1\n", "is not Parquet", {"format": "parquet"}
    wide = pa.table({f"c{number}": [number] for number in range(1_601)})
    yield "Parquet of 1,601 columns", parquet(wide), "can have 1600", {}
    zeros = one(pa.large_string(), "0" * 24 * 1024 * 1024, compression="zstd", use_dictionary=False)
    yield "a Parquet bomb", zeros, "unpacks to over 300 times its size", {}
    yield "Parquet of a NUL", one(pa.string(), "a\0b"), "line 1, column v: invalid byte sequence", {}
    yield (
        "Parquet of bytes that are no text",
        one(pa.binary(), b"a\xff"),
        "line 1, column v: invalid byte sequence",
        {"columns": {"v": "text"}},
    )
    yield "Parquet of a day too early", one(pa.date32(), -2_440_589), "a day before 4714 BC", {}
    yield "Parquet of a day too late", one(pa.date32(), 2_145_042_906), "line 1, column v: date out of range", {}
    yield "Parquet of milliseconds too many", one(pa.timestamp("ms"), 2**62), damaged, {}
    yield (
        "Parquet of a number too large",
        one(pa.int64(), 1, 2**40),
        "line 2, column v: value",
        {"columns": {"v": "integer"}},
    )
    yield (
        "Parquet of a decimal too large",
        one(pa.decimal128(9, 2), Decimal("1234567.89")),
        "numeric field overflow",
        {"columns": {"v": "numeric(5,2)"}},
    )
    yield (
        "Parquet of a text too long",
        one(pa.string(), "a", "abc"),
        "line 2, column v: value too long",
        {"columns": {"v": "varchar(2)"}},
    )


def with_empty_group(table: pa.Table) -> bytes:
    """Return a table as a file with an empty row group before its own."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema) as writer:
        writer.write_table(table.slice(0, 0))
        writer.write_table(table)
    return buffer.getvalue()
