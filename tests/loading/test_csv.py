"""CSV files into tables: types, names, dialects, encodings, packing."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from tests.loading.scene import Scene, message, result

DOLLAR, EURO = "Доллар США", "Евро"
PRICES = "Trade Date,Series,Settle,Volume,Open?\n2026-07-16,NKU26,67005.5,27189,true\n2026-07-17,NKZ26,,0,false\n"


async def test_a_file_becomes_a_table_with_names_and_types_from_its_header_and_values(scene: Scene) -> None:
    job = await scene.load(source=scene.write("prices.csv", PRICES))

    assert result(job) == {"rows": 2, "rejected": 0, "files": 1, "bytes": len(PRICES)}
    assert await scene.types() == {
        "trade_date": "date",
        "series": "text",
        "settle": "numeric",
        "volume": "bigint",
        "open": "boolean",
    }
    assert await scene.rows() == [
        (date(2026, 7, 16), "NKU26", Decimal("67005.5"), 27189, True),
        (date(2026, 7, 17), "NKZ26", None, 0, False),
    ]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
async def test_the_delimiter_is_found_out(scene: Scene, delimiter: str) -> None:
    content = "a,b\n1,x\n2,y\n".replace(",", delimiter)

    await scene.load(source=scene.write("f.csv", content))

    assert await scene.rows() == [(1, "x"), (2, "y")]


async def test_quotes_delimiters_and_line_ends_inside_of_fields_are_kept(scene: Scene) -> None:
    content = 'a,b\r\n1,"x, ""y"""\r\n2,"two\r\nlines"\r\n'

    await scene.load(source=scene.write("f.csv", content))

    assert await scene.rows() == [(1, 'x, "y"'), (2, "two\r\nlines")]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
async def test_every_kind_of_line_ends_is_read(scene: Scene, ends: str, last: bool) -> None:
    lines = ["a,b", "1,x", "2,y"]

    await scene.load(source=scene.write("f.csv", ends.join(lines) + (ends if last else "")))

    assert await scene.rows() == [(1, "x"), (2, "y")]


async def test_line_ends_may_be_mixed(scene: Scene) -> None:
    await scene.load(source=scene.write("f.csv", "a,b\r\n1,x\n2,y\r\n3,z\n"))

    assert await scene.rows() == [(1, "x"), (2, "y"), (3, "z")]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 1_000_000])
async def test_the_size_of_chunks_changes_nothing(scene: Scene, chunk_bytes: int) -> None:
    rows = [(n, f'line "{n}"\nand, more' if n % 3 else "") for n in range(50)]
    content = "n,text\n" + "".join(f'{n},"{text.replace(chr(34), chr(34) * 2)}"\n' for n, text in rows)

    job = await scene.load(source=scene.write("f.csv", content), chunk_bytes=chunk_bytes)

    assert result(job)["rows"] == 50
    assert await scene.rows("select * from t order by n") == rows


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
async def test_a_packed_file_is_unpacked_whatever_its_name(scene: Scene, pack: object) -> None:
    assert callable(pack)

    await scene.load(source=scene.write("f.csv", pack(b"a,b\n1,x\n")))

    assert await scene.rows() == [(1, "x")]


def zipped(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.csv", content)
    return buffer.getvalue()


async def test_the_one_file_of_an_archive_is_loaded(scene: Scene) -> None:
    await scene.load(source=scene.write("f.zip", zipped(one="a,b\n1,x\n")))

    assert await scene.rows() == [(1, "x")]


async def test_several_files_of_an_archive_are_named_until_it_is_said_which_to_load(scene: Scene) -> None:
    path = scene.write("f.zip", zipped(one="a\n1\n", two="a\n2\n"))

    unclear, clear = await scene.loads({"source": path}, {"source": path, "member": "*.csv"})

    assert "name one or a pattern in `member`: one.csv, two.csv" in message(unclear)
    assert result(clear)["files"] == 2
    assert await scene.rows("select a from t order by a") == [(1,), (2,)]


@pytest.mark.parametrize(
    ("encoding", "asked"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-32", None),
        ("windows-1251", "windows-1251"),
        ("utf-16-le", "utf-16-le"),
        ("cp866", "cp866"),
        ("mac-cyrillic", "mac-cyrillic"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [5, None])
async def test_text_is_read_in_its_encoding(
    scene: Scene, encoding: str, asked: str | None, chunk_bytes: int | None
) -> None:
    path = scene.write("f.csv", f"название,n\n{DOLLAR},1\n{EURO},2\n".encode(encoding))

    job = await scene.load(source=path, chunk_bytes=chunk_bytes, **({"encoding": asked} if asked else {}))

    assert result(job)["rows"] == 2
    assert await scene.rows('select "название", n from t order by n') == [(DOLLAR, 1), (EURO, 2)]


async def test_text_that_is_not_utf_8_asks_for_its_encoding(scene: Scene) -> None:
    job = await scene.load(source=scene.write("f.csv", "a,b\n1,x\n2,Евро\n".encode("cp1251")))

    assert "f.csv, line 3: byte 0xc5 is not UTF-8" in message(job)
    assert "encoding=windows-1251" in message(job)


async def test_a_row_that_does_not_fit_names_its_line_its_column_and_its_value(scene: Scene) -> None:
    content = 'n,text\n1,"two\nlines"\n2,x\nmany,y\n'

    job = await scene.load(source=scene.write("f.csv", content), columns={"n": "integer"})

    assert 'f.csv, line 5, column n: invalid input syntax for type integer: "many"' in message(job)
    assert await scene.pg.fetchval("select to_regclass('t')") is None


async def test_the_line_of_a_bad_row_is_counted_over_chunks(scene: Scene) -> None:
    content = "n\n" + "".join(f"{n}\n" for n in range(1, 100)) + "x\n"

    job = await scene.load(source=scene.write("f.csv", content), columns={"n": "integer"}, chunk_bytes=10)

    assert "line 101, column n" in message(job)


async def test_columns_are_matched_by_name_and_those_the_file_lacks_take_their_default(scene: Scene) -> None:
    await scene.pg.execute("create table t (n int, \"Odd Name\" text, at timestamptz default '2026-01-01 00:00Z')")

    await scene.load(source=scene.write("f.csv", "Odd Name,N\nx,1\n"))

    assert await scene.rows() == [(1, "x", datetime(2026, 1, 1, tzinfo=UTC))]


async def test_columns_the_table_lacks_are_refused_or_added(scene: Scene) -> None:
    await scene.pg.execute("create table t (n int)")
    path = scene.write("f.csv", "n,extra\n1,2.5\n")

    frozen, evolved = await scene.loads({"source": path}, {"source": path, "on_schema_change": "evolve"})

    assert "has columns that public.t lacks: extra; set on_schema_change=evolve to add them" in message(frozen)
    assert result(evolved)["rows"] == 1
    assert await scene.types() == {"n": "integer", "extra": "numeric"}


async def test_evolve_widens_a_type_that_the_file_has_outgrown(scene: Scene) -> None:
    first, second = scene.write("1.csv", "n,d\n1,2026-01-01\n"), scene.write("2.csv", "n,d\n1.5,2026-01-01 12:00\n")

    await scene.loads({"source": first}, {"source": second, "on_schema_change": "evolve"})

    assert await scene.types() == {"n": "numeric", "d": "timestamp without time zone"}
    assert len(await scene.rows()) == 2


async def test_a_pattern_loads_its_files_in_the_order_of_their_names(scene: Scene) -> None:
    for n in (2, 1, 3):
        scene.write(f"part-{n}.csv", f"n\n{n}\n")
    scene.write("other.csv", "n\n9\n")

    job = await scene.load(source=f"{scene.folder}/part-*.csv")

    assert result(job)["files"] == 3
    assert await scene.rows() == [(1,), (2,), (3,)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "f.csv is empty"),
        ("\n\n", "f.csv is empty"),
        ("a,b\n", "0 rows came, at least 1 are expected (min_rows)"),
        ("a,b\n1\n", "line 2: missing data for column"),
        ("a,b\n1,2,3\n", "line 2: extra data after last expected column"),
        ('a,b\n1,"x\n', "line 2: a quote is opened in this record and never closed"),
        ("a,b\n1,x\0y\n", "invalid byte sequence"),
        (",".join(f"c{n}" for n in range(10_000)) + "\n", "has 10000 columns; a table can have 1600"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is not UTF-8"),
        (b"PAR1....PAR1", "is damaged, or Parquet of a kind"),
        (gzip.compress(b"a,b\n1,x\n" * 100_000)[:-1000], "is cut short"),
        (b"\x1f\x8bgarbage that is no gzip", "is damaged"),
        (b"PK\x03\x04garbage that is no zip", "is a damaged archive"),
        (gzip.compress(b"0" * 64 * 1024 * 1024), "unpacks to over 300 times its size"),
    ],
)
async def test_a_file_that_cannot_be_loaded_says_why_and_leaves_nothing(
    scene: Scene, content: str | bytes, reason: str
) -> None:
    job = await scene.load(source=scene.write("f.csv", content))

    assert reason in message(job)
    assert await scene.pg.fetchval("select to_regclass('t')") is None


async def test_decimal_commas_and_spaces_between_thousands_are_read_as_asked(scene: Scene) -> None:
    content = "day;open;volume;note\n31.12.2024;1\u00a0234,50;27 189;1,5\n01.01.2025 ;-0,25;;a\n"

    job = await scene.load(
        source=scene.write("f.csv", content.replace(" ;", ";")), decimal=",", thousands=" ", dates="DMY"
    )

    assert result(job)["rows"] == 2
    assert await scene.types() == {"day": "date", "open": "numeric", "volume": "bigint", "note": "text"}
    assert await scene.rows() == [
        (date(2024, 12, 31), Decimal("1234.50"), 27189, "1,5"),
        (date(2025, 1, 1), Decimal("-0.25"), None, "a"),
    ]


@pytest.mark.parametrize("mode", ["append", "merge"])
async def test_a_number_that_is_written_otherwise_than_asked_is_rejected(scene: Scene, mode: str) -> None:
    path = scene.write("f.csv", "n;x\n1;1,5\n2;1.5\n3;2,5\n")
    how = {"decimal": ",", "columns": {"x": "numeric"}, "on_error": "reject", "primary_key": ["n"]}

    job = await scene.load(source=path, mode=mode, **how)

    assert result(job)["rows"] == 2
    assert await scene.rows("select x from t order by n") == [(Decimal("1.5"),), (Decimal("2.5"),)]


async def test_american_days_and_thousands_are_read_as_asked(scene: Scene) -> None:
    content = 'at,x\n12/31/2024 23:59,"1,234.5"\n1/2/2025 0:00,"12"\n'

    await scene.load(source=scene.write("f.csv", content), thousands=",", dates="MDY")

    assert await scene.rows() == [
        (datetime(2024, 12, 31, 23, 59), Decimal("1234.5")),  # noqa: DTZ001 - the column has no zone
        (datetime(2025, 1, 2), Decimal(12)),  # noqa: DTZ001 - the same
    ]


@pytest.mark.parametrize("chunk_bytes", [1, None])
async def test_a_line_that_ends_the_data_for_older_servers_drops_nothing_without_a_word(
    scene: Scene, chunk_bytes: int | None
) -> None:
    job = await scene.load(source=scene.write("f.csv", "t\na\n\\.\nb\n"), chunk_bytes=chunk_bytes)

    if scene.pg.get_server_version().major < 18:
        assert "takes for the end of the data" in message(job)
    else:
        assert await scene.rows() == [("a",), ("\\.",), ("b",)]


@pytest.mark.parametrize("parallel", [1, 2])
async def test_a_quote_that_is_never_closed_is_found_where_it_is_opened(scene: Scene, parallel: int) -> None:
    lines = [f"{n},x" for n in range(4_000)] + ['4000,"x'] + [f"{n},x" for n in range(4_001, 4_100)]
    path = scene.write("f.csv", "\n".join(["n,t", *lines, ""]))

    job = await scene.load(source=path, chunk_bytes=10_000, parallel=parallel)

    assert "f.csv, line 4002: a quote is opened in this record and never closed" in message(job)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n\n", '\n"', '\n"4100\n",'])
@pytest.mark.parametrize("parallel", [1, 2, 3])
async def test_what_stands_behind_the_last_line_end_counts(scene: Scene, ending: str, parallel: int) -> None:
    text = "k,t\n" + "\n".join(f"{n},x" for n in range(4_100)) + ending

    job = await scene.load(source=scene.write("f.csv", text), chunk_bytes=10_000, parallel=parallel)

    if ending == '\n"':
        assert "line 4102: a quote is opened" in message(job)
    else:
        assert result(job)["rows"] == 4_100 + ending.count("4100")


@pytest.mark.parametrize("order", ["ISO, DMY", "SQL, MDY"])
async def test_days_and_instants_are_read_alike_whatever_the_database_has_set(scene: Scene, order: str) -> None:
    await scene.pg.execute("create table t (id int, day date, at timestamptz)")
    name = await scene.pg.fetchval("select current_database()")
    await scene.pg.execute(f"alter database \"{name}\" set timezone = 'America/New_York'")
    await scene.pg.execute(f"alter database \"{name}\" set datestyle = '{order}'")
    source = scene.write("f.csv", "id,day,at\n1,2024-03-02,2024-01-01 12:00\n")

    good = await scene.load(source=source)
    bad = await scene.load(source=scene.write("g.csv", "id,day,at\n2,02/03/2024,2024-01-01\n"))
    told = await scene.load(source=scene.write("h.csv", "id,day,at\n3,02/03/2024,01/01/2024 12:00\n"), dates="DMY")

    assert (result(good)["rows"], result(told)["rows"]) == (1, 1)
    assert 'date/time field value out of range: "02/03/2024"; where the day or month comes first' in message(bad)
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    assert await scene.rows() == [(1, date(2024, 3, 2), noon), (3, date(2024, 3, 2), noon)]
