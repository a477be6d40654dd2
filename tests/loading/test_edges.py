"""What must not end in wrong rows: damaged heads, blank lines, rows without keys, tables that are not kept."""

from __future__ import annotations

import pytest

from tests.loading.scene import Scene, message, result


async def test_a_byte_that_is_no_text_in_the_header_is_refused_with_its_line(scene: Scene) -> None:
    path = scene.write("f.csv", b"caf\xe9,n\nx,1\n")

    assert "line 1: byte 0xe9 in the name of a column is not utf-8" in message(
        await scene.load(source=path, encoding="utf-8")
    )


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
async def test_a_byte_that_is_no_text_before_the_data_does_not_move_where_the_data_begin(
    scene: Scene, mark: bytes
) -> None:
    path = scene.write("f.csv", mark + b"made by caf\xe9\xe9\xe9\nk,n\nabc,1\n")

    job = await scene.load(source=path, encoding="utf-8", skip_lines=1)

    assert result(job)["rows"] == 1
    assert await scene.rows() == [("abc", 1)]


async def test_a_byte_that_means_nothing_in_an_encoding_is_refused_where_it_is(scene: Scene) -> None:
    path = scene.write("f.csv", b"k,\x98\nabc,1\n")

    assert "byte 0x98 in the name of a column is not cp1251" in message(
        await scene.load(source=path, encoding="cp1251")
    )


async def test_a_byte_that_is_no_text_in_a_row_is_rejected_with_the_row(scene: Scene) -> None:
    path = scene.write("f.csv", b"\xef\xbb\xbfk,n\nabc,1\n\xff,2\ndef,3\n")

    job = await scene.load(source=path, on_error="reject")

    assert result(job)["rejected"] == 1
    assert await scene.rows() == [("abc", 1), ("def", 3)]
    assert await scene.rows("select line from t_rejects") == [(3,)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_a_blank_line_is_a_row_of_one_column_unless_it_is_at_the_end(scene: Scene, end: str) -> None:
    path = scene.write("f.csv", end.join(["n", "1", "", "", "2", "3", "", "", ""]))
    ways: list[dict[str, object]] = [
        {"source": path, "table": f"t_{size}_{parallel}".lower(), "chunk_bytes": size, "parallel": parallel}
        for size in (1, 3, 4, None)
        for parallel in (1, 3)
    ]

    await scene.loads(*ways)

    for way in ways:
        rows = await scene.rows(f"select n from {way['table']} order by n nulls last")
        assert rows == [(1,), (2,), (3,), (None,), (None,)], way


@pytest.mark.parametrize("chunk_bytes", [1, 4, None])
async def test_a_blank_line_between_rows_of_two_columns_is_rejected_and_at_the_end_is_none(
    scene: Scene, chunk_bytes: int | None
) -> None:
    path = scene.write("f.csv", "k,n\na,1\n\nb,2\n\n\n")

    await scene.load(source=path, chunk_bytes=chunk_bytes, on_error="reject")

    assert await scene.rows("select k from t order by k") == [("a",), ("b",)]
    assert await scene.rows("select line from t_rejects") == [(3,)]


@pytest.mark.parametrize("name", ["f.csv", "f.jsonl"])
async def test_rows_without_the_key_are_refused_when_merging_and_not_taken_for_one(scene: Scene, name: str) -> None:
    await scene.pg.execute("create table t (k text unique, n int)")
    rows = {"f.csv": "k,n\na,1\n,2\n,3\n", "f.jsonl": '{"k":"a","n":1}\n{"n":2}\n{"k":null,"n":3}\n'}
    how: dict[str, object] = {"source": scene.write(name, rows[name]), "mode": "merge", "primary_key": ["k"]}

    failed, rejected = await scene.loads(how, how | {"on_error": "reject"})

    assert f"line {3 if name == 'f.csv' else 2}" in message(failed)
    assert result(rejected)["rejected"] == 2
    assert await scene.rows() == [("a", 1)]


async def test_a_table_in_a_schema_of_the_servers_own_is_refused(scene: Scene) -> None:
    path = scene.write("f.csv", "n\n1\n")
    schemas = ["pg_temp", "pg_temp_3", "pg_catalog", "information_schema", "pg_toast"]
    ways: list[dict[str, object]] = [{"source": path, "table": f"{schema}.foo"} for schema in schemas]

    jobs = await scene.loads(*ways)

    assert all("lies in a schema of the server's own" in message(job) for job in jobs)


@pytest.mark.parametrize("what", ["f.csv", "f.jsonl"])
async def test_columns_may_be_called_as_our_own_are(scene: Scene, what: str) -> None:
    text = {"f.csv": "k,dl_order,line\na,1,x\n", "f.jsonl": '{"k":"a","dl_order":1,"line":"x"}\n'}
    job = await scene.load(source=scene.write(what, text[what]), mode="merge", primary_key=["k"])

    assert result(job)["rows"] == 1
    assert await scene.rows() == [("a", 1, "x")]


async def test_the_key_may_be_named_as_the_file_does(scene: Scene) -> None:
    path = scene.write("f.csv", "Trade Day,n\na,1\nb,2\n")
    how: dict[str, object] = {"source": path, "mode": "merge", "primary_key": ["Trade Day"]}

    await scene.loads(how, how)

    assert await scene.rows("select trade_day, n from t order by 1") == [("a", 1), ("b", 2)]


async def test_a_key_that_the_file_lacks_is_named(scene: Scene) -> None:
    await scene.pg.execute("create table t (k text unique, n int)")

    job = await scene.load(source=scene.write("f.csv", "n\n1\n"), mode="merge", primary_key=["k"])

    assert "primary_key names k, which is not among the columns: n" in message(job)


async def test_a_file_of_carriage_returns_may_have_line_feeds_inside_of_quotes(scene: Scene) -> None:
    path = scene.write("f.csv", 'k,n\r"a\nb",1\rc,2\r')

    await scene.load(source=path)

    assert await scene.rows() == [("a\nb", 1), ("c", 2)]


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
async def test_utf_16_without_a_mark_is_recognised_and_the_error_says_how_to_load_it(scene: Scene, codec: str) -> None:
    path = scene.write("f.csv", "k,n\na,1\n".encode(codec))

    refused, loaded = await scene.loads({"source": path}, {"source": path, "encoding": codec})

    assert f"encoding={codec}" in message(refused)
    assert result(loaded)["rows"] == 1


async def test_a_tab_may_be_spelled(scene: Scene) -> None:
    path = scene.write("f.csv", "k\tn\na;b,c\t1\n")

    ways: list[dict[str, object]] = [{"source": path, "delimiter": spelled} for spelled in ("\t", "\\t", "tab")]

    await scene.loads(*ways)

    assert await scene.rows() == [("a;b,c", 1)] * 3
