"""Loads from Parquet, beside what ADBC's driver makes of the same file."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import adbc_ingest, peers
from benchmarks.loads import Stage

ROWS_PER_GROUP = 500_000
PRICES = ("open", "high", "low", "settle")
NUMERIC = pa.decimal128(18, 3)


def write_source(path: Path, rows: int, *, exact: bool) -> None:
    """Write rows of prices; as decimals if `exact`."""
    draw = random.Random(1)  # noqa: S311 - the same rows every time
    kind = NUMERIC if exact else pa.float64()
    schema = pa.schema(
        [("id", pa.int64()), ("trade_date", pa.date32()), ("series", pa.string())]
        + [(name, kind) for name in PRICES]
        + [("volume", pa.int64())]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, ROWS_PER_GROUP):
            numbers = range(first, min(first + ROWS_PER_GROUP, rows))
            prices = [pa.array([round(draw.random() * 1_000, 3) for _ in numbers]).cast(kind) for _ in PRICES]
            days = pa.array([20_000 + n % 366 for n in numbers], pa.int32()).cast(pa.date32())
            series = pa.array([f"NKU{n % 1_000}" for n in numbers])
            volumes = pa.array([n % 9_973 for n in numbers], pa.int64())
            columns = [pa.array(numbers, pa.int64()), days, series, *prices, volumes]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


async def source(stage: Stage, rows: int, *, exact: bool) -> Path:
    """Return the file, written if it is not there."""
    path = stage.source.with_name(f"prices-{rows}{'-exact' if exact else ''}.parquet")
    if not path.exists():
        await asyncio.to_thread(write_source, path, rows, exact=exact)
    return path


async def empty(stage: Stage, *tables: str, exact: bool) -> None:
    """Create tables anew with the very types of the file."""
    await stage.empty(*tables)
    for table in () if exact else tables:
        changes = ", ".join(f"alter column {name} type double precision" for name in PRICES)
        await stage.connection.execute(f"alter table {table} {changes}")


async def ingest(dsn: str, path: Path, table: str) -> float | None:
    """Return the seconds that ADBC took, None where it is not installed."""
    process = await asyncio.create_subprocess_exec(
        peers.python(), adbc_ingest.__file__, dsn, str(path), table, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return None if process.returncode else float(output)
