"""A CSV file into a table by dlt; run as a script by a Python that has it. Prints the seconds it took."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

BLOCK_BYTES = 16 * 1024 * 1024
FASTEST = "csv, COPY, uncompressed"
"""Where Arrow's tables become files of CSV that PostgreSQL copies."""
AS_IT_COMES = "settings as they come"


def main(host: str, user: str, database: str, source: str, table: str, *, how: str) -> None:
    """Append the rows of a file as Arrow's tables, in one of dlt's ways."""
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    if how == FASTEST:
        os.environ["NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION"] = "true"
    dlt, arrow, csv = (importlib.import_module(name) for name in ("dlt", "pyarrow", "pyarrow.csv"))

    def batches() -> Iterator[Any]:
        with csv.open_csv(source, csv.ReadOptions(block_size=BLOCK_BYTES)) as reader:
            for batch in reader:
                yield arrow.Table.from_batches([batch])

    credentials = {"host": quote(host, safe=""), "port": 5432, "username": user, "password": "-", "database": database}
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "bench",
            pipelines_dir=folder,
            dataset_name="dlt_bench",
            destination=dlt.destinations.postgres(credentials=credentials),
        )
        started_s = time.perf_counter()
        resource = dlt.resource(batches, name=table, write_disposition="append")
        pipeline.run(resource, loader_file_format="csv" if how == FASTEST else None)
        print(time.perf_counter() - started_s)


if __name__ == "__main__":
    main(*sys.argv[1:-1], how=sys.argv[-1])
