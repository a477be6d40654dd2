"""A Parquet file into a table by ADBC; run as a script by a Python that has it. Prints the seconds it took."""

from __future__ import annotations

import importlib
import sys
import time


def main(dsn: str, source: str, table: str) -> None:
    """Append the rows of a file, a batch of 65,536 after the other."""
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    with importlib.import_module("adbc_driver_postgresql.dbapi").connect(dsn) as connection:
        started_s = time.perf_counter()
        file = parquet.ParquetFile(source)
        batches = arrow.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(65_536))
        with connection.cursor() as cursor:
            cursor.adbc_ingest(table, batches, mode="append")
        connection.commit()
        print(time.perf_counter() - started_s)


if __name__ == "__main__":
    main(*sys.argv[1:])
