"""JSON Lines into tables."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

import pytest

from tests.loading.scene import Scene, message, result


def lines(*objects: object) -> str:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects)


@pytest.mark.parametrize("chunk_bytes", [1, None])
async def test_objects_become_rows_with_types_from_their_values(scene: Scene, chunk_bytes: int | None) -> None:
    content = lines(
        {"Trade Date": "2026-07-16", "n": 1, "price": 1.5, "ok": True, "tags": ["a"], "note": 'x "y"\n,z'},
        {"Trade Date": None, "n": 2, "price": 2, "ok": None, "tags": {"b": 1}, "note": "Евро"},
        {"n": 3},
    )

    job = await scene.load(source=scene.write("f.jsonl", content), chunk_bytes=chunk_bytes)

    assert result(job)["rows"] == 3
    assert await scene.types() == {
        "trade_date": "date",
        "n": "bigint",
        "price": "numeric",
        "ok": "boolean",
        "tags": "jsonb",
        "note": "text",
    }
    assert await scene.rows("select * from t order by n") == [
        (date(2026, 7, 16), 1, Decimal("1.5"), True, '["a"]', 'x "y"\n,z'),
        (None, 2, Decimal(2), None, '{"b": 1}', "Евро"),
        (None, 3, None, None, None, None),
    ]


async def test_blank_lines_are_passed_over(scene: Scene) -> None:
    job = await scene.load(source=scene.write("f.jsonl", '{"n": 1}\r\n\r\n{"n": 2}\r\n\r\n'))

    assert result(job)["rows"] == 2
    assert await scene.rows() == [(1,), (2,)]


async def test_objects_are_merged_by_key(scene: Scene) -> None:
    content = lines({"k": "a", "v": 1}, {"k": "b", "v": 2}, {"k": "a", "v": 3})

    await scene.load(source=scene.write("f.jsonl", content), mode="merge", primary_key=["k"])

    assert await scene.rows("select * from t order by k") == [("a", 3), ("b", 2)]


@pytest.mark.parametrize("bad", ["{", "[1]", "7", '{"n": "\\u0000"}', "nonsense"])
async def test_a_line_that_is_no_object_fails_or_is_rejected_with_its_line(scene: Scene, bad: str) -> None:
    path = scene.write("f.jsonl", f'{{"n": 1}}\n{bad}\n{{"n": 3}}\n')

    failed, rejected = await scene.loads({"source": path}, {"source": path, "on_error": "reject"})

    assert "f.jsonl, line 2" in message(failed)
    assert result(rejected)["rows"] == 2
    assert await scene.rows("select line, row from t_rejects") == [(2, bad)]


async def test_a_value_that_does_not_fit_is_rejected(scene: Scene) -> None:
    content = lines({"n": 1}, {"n": "many"}, {"n": 3})

    job = await scene.load(source=scene.write("f.jsonl", content), columns={"n": "integer"}, on_error="reject")

    assert result(job)["rows"] == 2
    assert [json.loads(row) for (row,) in await scene.rows("select row from t_rejects")] == [{"n": "many"}]


async def test_keys_that_no_column_takes_are_not_dropped_without_a_word(scene: Scene) -> None:
    content = lines(*({"n": n} for n in range(20_000)), {"n": 1, "late": 2})

    path = scene.write("f.jsonl", content)

    refused, named = await scene.loads({"source": path}, {"source": path, "columns": {"late": "integer"}})

    assert "has keys that its first lines lack: late; name them in `columns` to load them" in message(refused)
    assert result(named)["rows"] == 20_001
    assert await scene.rows("select n, late from t where late is not null") == [(1, 2)]
