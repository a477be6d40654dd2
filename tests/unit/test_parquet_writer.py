"""What the server sends becomes Parquet: every value as it is, or an error that says which has no place there."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataloader.connectors.parquet.writer import ParquetPacker
from dataloader.connectors.unloading import Parquet
from dataloader.exceptions import PermanentError

KINDS = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "numeric": pa.string(),
    "numeric(10,2)": pa.decimal128(10, 2),
    "numeric(3,-2)": pa.decimal128(5, 0),
    "numeric(2,5)": pa.decimal128(5, 5),
    "numeric(60,2)": pa.decimal256(60, 2),
    "numeric(77,2)": pa.string(),
    "text": pa.string(),
    "character varying(9)": pa.string(),
    "bytea": pa.binary(),
    "uuid": pa.uuid(),
    "date": pa.date32(),
    "time without time zone": pa.time64("us"),
    "time with time zone": pa.string(),
    "timestamp without time zone": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "interval": pa.string(),
    "json": pa.json_(pa.string()),
    "jsonb": pa.json_(pa.string()),
    "integer[]": pa.string(),
    "inet": pa.string(),
}


def file_of(columns: Mapping[str, str], *blocks: str, group_bytes: int = 1_000) -> pq.ParquetFile:
    """Return what becomes of blocks of text."""
    packer = ParquetPacker(columns, "zstd", group_bytes=group_bytes)
    content = b"".join([*(packer.compress(block.encode()) for block in blocks), packer.flush()])
    return pq.ParquetFile(io.BytesIO(content))


def test_every_type_has_its_own_and_what_has_none_is_text() -> None:
    schema = file_of({kind: kind for kind in KINDS}).schema_arrow

    assert {field.name: field.type for field in schema} == KINDS


def test_texts_are_what_they_were() -> None:
    file = file_of({"t": "text"}, "\ufeffbom\n\n", '""\n"a ""b""\r\n"\n\\.\nNULL\n')

    assert file.read()["t"].to_pylist() == ["\ufeffbom", None, "", 'a "b"\r\n', "\\.", "NULL"]


def test_a_row_group_has_as_much_text_as_is_wanted() -> None:
    metadata = file_of({"n": "integer"}, *(f"{number:09}\n" for number in range(7)), group_bytes=30).metadata

    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [3, 3, 1]
    assert metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("date", "0001-12-31 BC", -719_163),
        ("date", "10000-01-01", 2_932_897),
        ("timestamp without time zone", "0044-03-15 12:00:00.5 BC", -63_517_780_799_500_000),
        ("timestamp with time zone", "294247-01-10 04:00:54.775807+00", 2**63 - 1),
        ("time without time zone", "23:59:59.999999", 86_399_999_999),
    ],
)
def test_days_and_instants_of_every_year_are_exact(kind: str, text: str, value: int) -> None:
    found = file_of({"c": kind}, f"{text}\n").read()["c"]

    assert found.cast(pa.int32() if kind == "date" else pa.int64()).to_pylist() == [value]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("numeric(10,2)", "NaN"),
        ("date", "infinity"),
        ("timestamp without time zone", "-infinity"),
        ("timestamp with time zone", "294276-12-31 23:59:59.999999+00"),
        ("time without time zone", "24:00:00"),
    ],
)
def test_what_has_no_place_there_is_refused_by_name(kind: str, text: str) -> None:
    with pytest.raises(PermanentError, match=r"column c holds .*; give a query that casts it to text"):
        file_of({"c": kind}, f"{text}\n")


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dataloader.connectors.parquet.writer", None)

    with pytest.raises(PermanentError, match=r"pip install pyarrow \(the extra `parquet`\)"):
        Parquet()
