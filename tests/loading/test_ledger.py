"""The ledger of chunks: one line per committed chunk, gone with the job."""

from __future__ import annotations

from uuid import uuid4

from tests.api.scene import opened
from tests.loading.scene import Scene, message, result

LINES = (
    "select source, range->>'begin', range->>'end', rows_in, rows_out, rejected, bytes from dl_chunks order by chunk_id"
)


async def test_every_chunk_of_a_file_has_a_line_with_its_range_and_what_became_of_its_rows(scene: Scene) -> None:
    path = scene.write("f.csv", "n\n1\nx\n3\n4\n")

    await scene.load(source=path, chunk_bytes=4, on_error="reject", columns={"n": "int"})

    assert await scene.rows(LINES) == [
        (path, "2", "6", 2, 1, 1, 4),
        (path, "6", "10", 2, 2, 0, 4),
    ]
    assert await scene.rows("select bool_and(ms > 0), min(epoch), max(attempt) from dl_chunks") == [(True, 1, 1)]


async def test_a_chunk_that_is_rolled_back_has_no_line(scene: Scene) -> None:
    job = await scene.load(source=scene.write("f.csv", "n\n1\nx\n"), chunk_bytes=1, columns={"n": "int"})

    assert "line 3" in message(job)
    assert await scene.rows("select rows_out from dl_chunks") == [(1,)]


async def test_the_lines_of_the_ledger_add_up_to_the_result(scene: Scene) -> None:
    content = "n\n" + "".join(f"{n}\n" for n in range(3_000))

    job = await scene.load(source=scene.write("f.csv", content), parallel=3, chunk_bytes=500)

    (total,) = await scene.rows("select sum(rows_out)::int, sum(bytes)::int from dl_chunks")
    assert total == (result(job)["rows"], len(content) - 2)


async def test_the_api_tells_the_lines_in_pages(scene: Scene) -> None:
    content = "n\n" + "".join(f"{n}\n" for n in range(3_000))
    job = await scene.load(source=scene.write("f.csv", content), chunk_bytes=50)

    async with opened(scene.settings) as api:
        rows, after = 0, "0"
        while after != "None":
            page = (await api.get(f"/jobs/{job['job_id']}/chunks", after=after, limit="50")).json()
            rows, after = rows + sum(chunk["rows_out"] for chunk in page["chunks"]), str(page["next_after"])
        missing = await api.get(f"/jobs/{uuid4()}/chunks")

    assert rows == 3_000
    assert missing.status_code == 404
