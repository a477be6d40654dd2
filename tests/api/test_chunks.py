"""What users see of the ledger of chunks."""

from __future__ import annotations

from dataloader.storage.db import Connection
from tests.api.scene import Scene

_LINE = """
insert into dl_chunks (job_id, epoch, attempt, source, targets, rows_in, rows_out, rejected, ms)
select $1, 1, 1, $2, $3, 1, 1, 0, 1
"""


async def test_of_tables_neither_host_nor_database_is_shown(scene: Scene, pg: Connection) -> None:
    job_id = await scene.trigger()
    await pg.execute(_LINE, job_id, "postgres://db.internal:5432/shop.public.orders", ["postgres://h:1/own.public.t"])
    await pg.execute(_LINE, job_id, "https://h/f.csv", ["/data/out"])
    await pg.execute(_LINE, job_id, None, [])

    answer = await scene.get(f"/jobs/{job_id}/chunks")

    chunks = answer.json()["chunks"]
    assert [(chunk["source"], chunk["targets"]) for chunk in chunks] == [
        ("public.orders", ["public.t"]),
        ("https://h/f.csv", ["/data/out"]),
        (None, []),
    ]
    assert [text for text in ("internal", "5432", "shop", "own") if text in answer.text] == []
