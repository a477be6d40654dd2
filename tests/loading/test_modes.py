"""append, replace, merge; rows that do not fit; several chunks and several attempts."""

from __future__ import annotations

import json

import pytest

from tests.loading.scene import Scene, message, result


async def test_append_adds_to_what_is_there(scene: Scene) -> None:
    path = scene.write("f.csv", "n\n1\n")

    await scene.loads({"source": path}, {"source": path})

    assert await scene.rows() == [(1,), (1,)]


@pytest.mark.parametrize("chunk_bytes", [1, None])
async def test_merge_updates_by_key_and_the_last_row_of_a_key_wins(scene: Scene, chunk_bytes: int | None) -> None:
    first = scene.write("1.csv", "k,v\na,1\nb,2\na,3\n")
    second = scene.write("2.csv", "k,v\nb,4\nc,5\n")
    how: dict[str, object] = {"mode": "merge", "primary_key": ["k"], "chunk_bytes": chunk_bytes}

    await scene.loads({"source": first} | how, {"source": second} | how)

    assert await scene.rows("select k, v from t order by k") == [("a", 3), ("b", 4), ("c", 5)]


async def test_merge_leaves_rows_that_are_stored_as_they_are(scene: Scene) -> None:
    path = scene.write("f.csv", "k,v\na,1\nb,2\n")
    how = {"source": path, "mode": "merge", "primary_key": ["k"]}

    await scene.load(**how)
    before = await scene.rows("select ctid::text, xmin::text from t")
    await scene.load(**how)

    assert await scene.rows("select ctid::text, xmin::text from t") == before


async def test_merge_without_a_unique_key_says_so(scene: Scene) -> None:
    await scene.pg.execute("create table t (k text, v int)")

    job = await scene.load(source=scene.write("f.csv", "k,v\na,1\n"), mode="merge", primary_key=["k"])

    assert "public.t has no unique key on (k)" in message(job)


@pytest.mark.parametrize("chunk_bytes", [1, None])
async def test_replace_puts_the_new_rows_in_the_place_of_the_old_ones(scene: Scene, chunk_bytes: int | None) -> None:
    await scene.pg.execute("create table t (n int primary key, note text default 'none'); insert into t values (9)")

    job = await scene.load(source=scene.write("f.csv", "n\n1\n2\n"), mode="replace", chunk_bytes=chunk_bytes)

    assert result(job)["rows"] == 2
    assert await scene.rows("select * from t order by n") == [(1, "none"), (2, "none")]
    assert await scene.rows("select conname from pg_constraint where conrelid = 't'::regclass and contype = 'p'") == [
        ("t_pkey",)
    ]
    assert await scene.rows("select relname from pg_class where relname like 'dl\\_new%'") == []


async def test_replace_creates_a_table_that_is_missing(scene: Scene) -> None:
    await scene.load(source=scene.write("f.csv", "n\n1\n"), mode="replace", primary_key=["n"])

    assert await scene.rows() == [(1,)]


async def test_replace_keeps_what_hangs_on_the_table(scene: Scene) -> None:
    await scene.pg.execute(
        "create table t (id bigserial primary key, n int); insert into t (n) values (9);"
        "create view v as select n from t; grant select on t to public"
    )

    job = await scene.load(source=scene.write("f.csv", "n\n1\n2\n"), mode="replace")

    assert result(job)["rows"] == 2
    assert await scene.rows("select * from v order by n") == [(1,), (2,)]
    assert await scene.pg.fetchval("select has_table_privilege('public', 't', 'select')")


async def test_replace_is_refused_where_others_refer_to_the_rows(scene: Scene) -> None:
    await scene.pg.execute(
        "create table t (n int primary key); insert into t values (1); create table child (n int references t)"
    )

    job = await scene.load(source=scene.write("f.csv", "n\n1\n"), mode="replace")

    assert "public.t cannot be replaced: child refers to its rows; use mode=merge" in message(job)


async def test_a_replacement_that_fails_leaves_the_old_rows(scene: Scene) -> None:
    await scene.pg.execute("create table t (n int); insert into t values (9)")

    job = await scene.load(source=scene.write("f.csv", "n\n1\nx\n"), mode="replace", chunk_bytes=1)

    assert "line 3" in message(job)
    assert await scene.rows() == [(9,)]


async def test_what_a_failed_replacement_left_behind_is_dropped_by_the_next(scene: Scene) -> None:
    bad, good = scene.write("bad.csv", "n\n1\nx\n"), scene.write("good.csv", "n\n1\n")
    await scene.pg.execute("create table t (n int)")

    await scene.loads({"source": bad, "mode": "replace", "chunk_bytes": 1}, {"source": good, "mode": "replace"})

    assert await scene.rows("select relname from pg_class where relname like 'dl\\_new%'") == []


@pytest.mark.parametrize("mode", ["append", "merge", "replace"])
@pytest.mark.parametrize("chunk_bytes", [1, 40, None])
async def test_rows_that_do_not_fit_are_rejected_with_their_line_and_the_rest_is_loaded(
    scene: Scene, mode: str, chunk_bytes: int | None
) -> None:
    lines = ["n,text", "1,a", "x,b", '3,"c', 'c"', "4", "5,e", 'y,"f', 'f"', "7,g,h", "8,i"]
    key = {"primary_key": ["n"]} if mode == "merge" else {}

    job = await scene.load(
        source=scene.write("f.csv", "\n".join(lines) + "\n"),
        mode=mode,
        on_error="reject",
        columns={"n": "integer"},
        chunk_bytes=chunk_bytes,
        **key,
    )

    assert result(job) | {"bytes": 0} == {"rows": 4, "rejected": 4, "files": 1, "bytes": 0}
    assert await scene.rows("select * from t order by n") == [(1, "a"), (3, "c\nc"), (5, "e"), (8, "i")]
    assert await scene.rows("select line, row from t_rejects order by line") == [
        (3, "x,b"),
        (6, "4"),
        (8, 'y,"f\nf"'),
        (10, "7,g,h"),
    ]


async def test_rows_that_break_a_rule_of_the_table_are_rejected(scene: Scene) -> None:
    await scene.pg.execute("create table t (n int primary key check (n < 100), other int references t)")

    job = await scene.load(source=scene.write("f.csv", "n,other\n1,\n1,\n2,1\n3,77\n400,\n5,\n"), on_error="reject")

    assert result(job)["rows"] == 3
    assert await scene.rows("select line, row from t_rejects order by line") == [(3, "1,"), (5, "3,77"), (6, "400,")]


async def test_a_merge_rejects_rows_that_break_a_rule(scene: Scene) -> None:
    await scene.pg.execute("create table t (n int primary key check (n < 100))")

    job = await scene.load(
        source=scene.write("f.csv", "n\n1\n200\n3\n"), mode="merge", primary_key=["n"], on_error="reject"
    )

    assert result(job)["rows"] == 2
    assert [row for (row,) in await scene.rows("select row from t_rejects")] == ["200"]


async def test_too_many_rejected_rows_end_the_job(scene: Scene) -> None:
    content = "n\n" + "1\nx\n" * 10

    job = await scene.load(source=scene.write("f.csv", content), on_error="reject", max_rejects=3, columns={"n": "int"})

    assert "more than max_rejects=3 rows were rejected" in message(job)
    assert 'line 3: invalid input syntax for type integer: "x"' in message(job)


async def test_a_file_that_changes_between_attempts_is_noticed(scene: Scene) -> None:
    path = scene.write("f.csv", "n\n1\nx\n")
    job = await scene.load(source=path, chunk_bytes=1, columns={"n": "int"})
    assert json.loads(job["checkpoint"])["rows"] == 1

    scene.write("f.csv", "n\n1\n2\n3\n")
    await scene.pg.execute("update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5")
    (again,) = await scene.ended(job["job_id"])

    assert "changed after its load had begun" in message(again)
    assert await scene.rows() == [(1,)]


async def test_a_retried_load_goes_on_behind_its_last_chunk(scene: Scene) -> None:
    await scene.pg.execute("create table t (n int check (n < 3))")
    job = await scene.load(source=scene.write("f.csv", "n\n1\n2\n3\n4\n"), chunk_bytes=1)
    assert "line 4" in message(job)

    await scene.pg.execute("alter table t drop constraint t_n_check")
    await scene.pg.execute("update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5")
    (again,) = await scene.ended(job["job_id"])

    assert result(again)["rows"] == 4
    assert await scene.rows() == [(1,), (2,), (3,), (4,)]


@pytest.mark.parametrize("on_error", ["fail", "reject"])
async def test_pieces_that_are_loaded_at_the_same_time_make_one_table(scene: Scene, on_error: str) -> None:
    content = "n\n" + "".join(f"{n}\n" for n in range(5_000)) + ("x\n" if on_error == "reject" else "")

    job = await scene.load(
        source=scene.write("f.csv", content), parallel=4, chunk_bytes=1_000, on_error=on_error, columns={"n": "int"}
    )

    assert result(job)["rows"] == 5_000
    assert await scene.rows("select count(*), count(distinct n) from t") == [(5_000, 5_000)]
    if on_error == "reject":
        assert await scene.rows("select line, row from t_rejects") == [(5_002, "x")]


async def test_a_bad_row_among_pieces_names_its_line_and_the_rest_can_be_loaded_later(scene: Scene) -> None:
    await scene.pg.execute("create table t (n int check (n <> 3456))")
    content = "n\n" + "".join(f"{n}\n" for n in range(5_000))
    job = await scene.load(source=scene.write("f.csv", content), parallel=4, chunk_bytes=1_000)
    assert "line 3458" in message(job)

    await scene.pg.execute("alter table t drop constraint t_n_check")
    await scene.pg.execute("update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5")
    (again,) = await scene.ended(job["job_id"])

    assert result(again)["rows"] == 5_000
    assert await scene.rows("select count(*), count(distinct n) from t") == [(5_000, 5_000)]
