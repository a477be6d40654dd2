"""What a reader of an unload is told."""

from __future__ import annotations

from uuid import UUID

from dataloader.connectors.unloading import Csv, Form
from dataloader.workers.pipelines.unload_table.state import UnloadState


def manifest_of(form: Form, state: UnloadState, *, source: str, job_id: UUID) -> dict[str, object]:
    """Return the manifest of a complete unload.

    Args:
        form: How its files are written.
        state: What they are.
        source: What was read, without secrets.
        job_id: By whom.
    """
    dialect = {"header": form.header, "delimiter": form.delimiter, "null": form.null} if isinstance(form, Csv) else {}
    return {
        "format": "csv" if isinstance(form, Csv) else "parquet",
        "compression": form.compression,
        **dialect,
        "columns": [{"name": name, "type": kind} for name, kind in state.columns],
        "key": list(state.key),
        "parts": [
            {"name": part.name, "rows": part.rows, "bytes": part.bytes, "sha256": part.sha256} for part in state.parts
        ],
        "rows": state.rows,
        "bytes": state.bytes,
        "source": source,
        "job_id": str(job_id),
        "finished_at": state.finished_at,
    }
