"""Files as they come: each loads right, or ends in an error that says where and what."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd
from functools import partial

from tests.loading import parquet_files

ANY = "*"
"""Stands for a value that is not looked at."""

BIG = 65 * 1024 * 1024


@dataclass(frozen=True)
class Case:
    """A file, how it is loaded, and what is to come of it.

    Attributes:
        content: The file; a function where it is large.
        rows: Values of the rows as text, None if it is to fail.
        reason: Part of the message it is to fail with.
        types: Types of the columns, None for any.
    """

    name: str
    content: bytes | Callable[[], bytes]
    rows: tuple[tuple[str | None, ...], ...] | None = None
    reason: str = ""
    args: dict[str, object] = field(default_factory=dict)
    types: tuple[str, ...] | None = None

    @property
    def body(self) -> bytes:
        """The file's bytes."""
        return self.content() if callable(self.content) else self.content


def cases() -> Iterator[Case]:
    """Yield all of them."""
    yield from written_in_every_way()
    yield from values_of_every_kind()
    yield from broken_text()
    yield from ragged()
    yield from encodings()
    yield from packed()
    yield from json_lines()
    yield from columnar()
    yield from odd_headers()
    yield from large()


def written_in_every_way() -> Iterator[Case]:
    """The same two rows in every dialect."""
    rows = (("1", "a"), ("2", "b"))
    for delimiter, ends, quoted, last in itertools.product(
        (",", ";", "\t", "|"), ("\n", "\r\n", "\r"), (False, True), (True, False)
    ):
        quote = '"' if quoted else ""
        lines = [f"{quote}n{quote}{delimiter}{quote}t{quote}"]
        lines += [f"{quote}{n}{quote}{delimiter}{quote}{t}{quote}" for n, t in rows]
        content = ends.join(lines) + (ends if last else "")
        yield Case(f"dialect {delimiter!r} {ends!r} {quoted} {last}", content.encode(), rows, types=("bigint", "text"))
    for sign in (":", "~", "^", "\x01"):
        content = f"n{sign}t\n1{sign}a\n2{sign}b\n"
        if sign == "\x01":
            continue
        yield Case(f"asked for {sign!r}", content.encode(), rows, args={"delimiter": sign})
    yield Case("mixed ends", b"n,t\r\n1,a\n2,b\r\n", rows)
    yield Case("blank lines at the end", b"n,t\n1,a\n2,b\n\n\n\n", rows)
    yield Case("blank lines at the start", b"\n\nn,t\n1,a\n2,b\n", rows)
    yield Case("single quotes", b"n,t\n1,'a'\n2,'b'\n", rows, args={"quote": "'"})
    yield Case("no quotes", b'n|t\n1|a"\n2|b\n', (("1", 'a"'), ("2", "b")), args={"quote": ""})
    yield Case("backslash escapes", b'n,t\n1,"a\\"x"\n2,"b\\\\"\n', (("1", 'a"x'), ("2", "b\\")), args={"escape": "\\"})
    crlf = b'n,t\r\n1,"a\\"\r\nx"\r\n2,b\r\n'
    yield Case("backslash escapes and CRLF", crlf, (("1", 'a"\r\nx'), ("2", "b")), args={"escape": "\\"})
    yield Case("no header", b"1,a\n2,b\n", rows, args={"header": False})
    yield Case("lines before the header", b"made by x\n\nn,t\n1,a\n2,b\n", rows, args={"skip_lines": 2})
    yield Case("a null of its own", b"n,t\n1,\\N\n2,b\n", (("1", None), ("2", "b")), args={"null": "\\N"})
    yield Case("quoted empty is no null", b'n,t\n1,""\n2,\n', (("1", ""), ("2", None)))
    yield Case("quoted empty number is null", b'n,t\n"",a\n2,b\n', ((None, "a"), ("2", "b")))
    yield Case("quotes in the middle", b'n,t\n1,a"b,c"d\n2,b\n', (("1", "ab,cd"), ("2", "b")))


def values_of_every_kind() -> Iterator[Case]:
    """One column, the values of which suggest a type."""
    for name, values, kind in (
        ("integers", ("0", "-1", "+7", "123456789012345678"), "bigint"),
        ("huge integers", ("1", "12345678901234567890123"), "numeric"),
        ("the largest bigint", ("9223372036854775807",), "numeric"),
        ("leading zeros", ("007", "042"), "text"),
        ("decimals", ("1.5", "-0.25", ".5", "3"), "numeric"),
        ("floats", ("1e10", "-2.5E-3"), "double precision"),
        ("floats and integers", ("1e10", "-2.5E-3", "7"), "numeric"),
        ("not numbers", ("NaN", "1.5"), "numeric"),
        ("infinities", ("Infinity", "-inf", "1"), "numeric"),
        ("booleans", ("true", "false", "TRUE"), "boolean"),
        ("yes and no", ("yes", "no"), "boolean"),
        ("days", ("2026-01-31", "1999-12-01"), "date"),
        ("days that are none", ("2026-02-30",), None),
        ("German days", ("31.12.2024", "01.01.2025"), "text"),
        ("American days", ("12/31/2024", "01/01/2025"), "text"),
        ("compact days", ("20241231", "20250101"), "bigint"),
        ("instants", ("2026-01-31 10:00", "2026-01-31T10:00:01.5"), "timestamp without time zone"),
        ("instants with zone", ("2026-01-31T10:00:00Z", "2026-01-31 10:00+03"), "timestamp with time zone"),
        ("days and instants", ("2026-01-31", "2026-01-31 10:00"), "timestamp without time zone"),
        ("clocks", ("10:00", "23:59:59"), "text"),
        ("uuids", ("01a20c71-79d2-7d3b-bfa3-e301628db985",), "uuid"),
        ("money", ("$1.50", "$2"), "text"),
        ("percent", ("1.5%",), "text"),
        ("thousands", ('"1,234"',), "text"),
        ("decimal commas", ('"1,5"', '"2,25"'), "text"),
        ("spaces around numbers", (" 1", "2 "), "text"),
        ("numbers and words", ("1", "n/a"), "text"),
        ("words for null", ("1", "NULL"), "text"),
        ("hexadecimal", ("0x1F",), "text"),
        ("underscores", ("1_000",), "text"),
        ("other digits", ("\u0661\u0662",), "text"),
        ("emoji", ("\U0001f600",), "text"),
        ("combining", ("e\u0301",), "text"),
        ("tabs", ('"a\tb"',), "text"),
        ("backslashes", ("\\.x", "\\N"), "text"),
        ("a quote", ('""""',), "text"),
        ("SQL", ("'; drop table t; --",), "text"),
    ):
        content = "v,w\n" + "".join(f"{value},x\n" for value in values)
        expected = None if kind is None else tuple((ANY, "x") for _ in values)
        reason = "line 2, column v: date/time field value out of range" if kind is None else ""
        yield Case(
            f"values: {name}", content.encode(), expected, reason, types=None if kind is None else (kind, "text")
        )
    for name, late in (("letter", "x"), ("decimal", "1.5"), ("date", "2026-01-01"), ("huge", "9" * 30)):
        yield Case(f"late {name}", partial(late_value, late), None, "line 300002, column v")


def broken_text() -> Iterator[Case]:
    """Bytes that are no text."""
    yield Case("empty", b"", None, "is empty")
    yield Case("only blank lines", b"\n\r\n\n", None, "is empty")
    yield Case("only a BOM", b"\xef\xbb\xbf", None, "is empty")
    yield Case("header only", b"n,t\n", None, "0 rows came")
    yield Case("header only, allowed", b"n,t\n", (), args={"min_rows": 0})
    yield Case("NUL in a field", b"n,t\n1,a\0b\n", None, "invalid byte sequence")
    yield Case("NUL in the header", b"n,t\0\n1,a\n", (("1", "a"),), args={"_columns": ("n", "t")})
    yield Case("all NUL", b"\0" * 100, None, "")
    yield Case("a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), None, "is not UTF-8")
    yield Case("an office document", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 50, None, "is not UTF-8")
    yield Case("Parquet", b"PAR1" + b"\0" * 30 + b"PAR1", None, "Parquet")
    yield Case("HTML", b"<!doctype html>\n<html>\n<body>no</body>\n</html>\n", None, "is a page")
    yield Case("XML", b"<?xml version='1.0'?>\n<a/>\n", None, "is a page or an XML document")
    yield Case("a quote that is never closed", b'n,t\n1,"a\n2,b\n', None, "line 2: a quote is opened")
    yield Case("a stray quote", b'n,t\n1,5" pipe\n2,b\n', None, "line 2: a quote is opened")
    yield Case("a lone carriage return", b"n,t\n1,a\rb\n", None, "unquoted carriage return")
    yield Case("control characters", b"n,t\n1,a\x07b\n", (("1", "a\x07b"),))
    yield Case("the end of data of old", b"n,t\n1,a\n\\.\n2,b\n", None, "line 3")
    yield Case("latin in the middle", b"n,t\n1,a\n2,caf\xe9\n", None, "line 3: byte 0xe9 is not UTF-8")
    yield Case("latin beyond the sample", late_latin, None, "line 80002")
    yield Case("a surrogate", b"n,t\n1,\xed\xa0\x80\n", None, "is not UTF-8")
    yield Case("overlong", b"n,t\n1,\xc0\x80\n", None, "is not UTF-8")


def ragged() -> Iterator[Case]:
    """Rows of other widths than the header's."""
    yield Case("too few", b"n,t\n1,a\n2\n", None, "line 3: missing data for column")
    yield Case("too many", b"n,t\n1,a\n2,b,c\n", None, "line 3: extra data after last expected column")
    yield Case("a delimiter at the end", b"n,t\n1,a,\n2,b,\n", None, "line 2: extra data")
    yield Case("a blank line in the middle", b"n,t\n1,a\n\n2,b\n", None, "line 3")
    yield Case("a total at the end", b"n,t\n1,a\n2,b\nTotal: 2\n", None, "line 4")
    yield Case("a comment", b"n,t\n1,a\n# note\n", None, "line 3")
    for width in (2, 50, 1_600):
        header = ",".join(f"c{n}" for n in range(width))
        row = ",".join(str(n) for n in range(width))
        expected = None if width > 1_000 else (tuple(str(n) for n in range(width)),)
        yield Case(f"{width} columns", f"{header}\n{row}\n".encode(), expected, "row is too big")
    yield Case("10,000 columns", (",".join(f"c{n}" for n in range(10_000)) + "\n").encode(), None, "can have 1600")
    yield Case(
        "rejects of every kind",
        b"n,t\n1,a\nx,b\n3\n4,c,d\n5,e\n",
        (("1", "a"), ("5", "e")),
        args={"on_error": "reject", "columns": {"n": "integer"}},
    )


def encodings() -> Iterator[Case]:
    """The same row in every encoding."""
    word = "\u0414\u043e\u043b\u043b\u0430\u0440"
    for codec in (
        "utf-8",
        "utf-8-sig",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "cp1251",
        "koi8-r",
        "cp866",
        "iso8859-5",
        "mac-cyrillic",
    ):
        marked = codec in {"utf-8", "utf-8-sig", "utf-16", "utf-32"}
        args: dict[str, object] = {} if marked else {"encoding": codec}
        yield Case(f"encoding {codec}", f"n,t\r\n1,{word}\r\n".encode(codec), (("1", word),), args=args)
    for codec in ("cp1252", "latin-1", "cp1250", "iso8859-15"):
        yield Case(f"encoding {codec}", "n,t\n1,caf\xe9\n".encode(codec), (("1", "caf\xe9"),), args={"encoding": codec})
    for codec in ("gbk", "big5", "shift_jis", "euc-kr", "gb18030"):
        yield Case(f"encoding {codec}", "n,t\n1,\u4e2d\n".encode(codec), (("1", "\u4e2d"),), args={"encoding": codec})
    yield Case("no such encoding", b"n,t\n1,a\n", None, "is not the name of an encoding", args={"encoding": "klingon"})
    yield Case("no text encoding", b"n,t\n1,a\n", None, "is not the name of an encoding", args={"encoding": "base64"})
    yield Case("half a character", "n,t\n1,\u4e2d\n".encode("utf-16")[:-3], None, "")
    yield Case("wrong encoding", b"n,t\n1,\x98\n", None, "", args={"encoding": "cp1251"})


def packed() -> Iterator[Case]:
    """Packed files, damaged ones, bombs."""
    plain, rows = b"n,t\n1,a\n2,b\n", (("1", "a"), ("2", "b"))
    for name, pack in (
        ("gzip", gzip.compress),
        ("bzip2", bz2.compress),
        ("xz", lzma.compress),
        ("zstd", zstd_compress),
    ):
        whole = pack(plain)
        yield Case(name, whole, rows)
        yield Case(f"{name} of {name}", pack(whole), None, "")
        yield Case(f"{name} cut short", whole[:-6], None, "is cut short" if name != "xz" else "")
        yield Case(f"{name} with a flipped byte", whole[:-5] + b"\xff" + whole[-4:], None, "is damaged")
        yield Case(f"{name} of nothing", pack(b""), None, "is empty")
        yield Case(f"two members of {name}", pack(b"n,t\n1,a\n") + pack(b"2,b\n"), rows)
    yield Case("gzip and garbage", gzip.compress(plain) + b"garbage", None, "is damaged")
    yield Case("gzip and padding", gzip.compress(plain) + b"\0" * 512, rows)
    yield Case("a gzip bomb", lambda: gzip.compress(bomb()), None, "unpacks to over 300 times its size")
    yield Case("a bzip2 bomb", lambda: bz2.compress(bomb()), None, "unpacks to over 300 times its size")
    yield Case("zstd without checksum", zstd.compress(plain), rows)
    yield Case("zstd of two sizes", zstd.compress(b"n,t\n", level=19) + zstd.compress(plain[4:], level=1), rows)
    yield Case("zstd and garbage", zstd_compress(plain) + b"garbage", None, "is damaged")
    yield Case("zstd, only its mark", zstd_compress(plain)[:4], None, "is cut short")
    refused = b"n,t\nx,a\n" + bytes(range(97, 123)) * 100_000
    how: dict[str, object] = {"columns": {"n": "integer"}}
    yield Case("a bad row, and then cut short", gzip.compress(refused, 0)[:-9], None, "is cut short", args=how)
    yield Case("a zstd bomb", lambda: zstd_compress(bomb()), None, "unpacks to over 300 times its size")
    yield Case("zstd behind a note", b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstd_compress(plain), rows)
    wide = zstd.compress(plain * 10, options={zstd.CompressionParameter.window_log: 30})
    yield Case("zstd of a window that takes a gigabyte", wide[:4] + b"\x04\xa0" + wide[6:], None, "is damaged")
    yield Case("zip", archive(("f.csv", plain)), rows)
    yield Case("zip with a folder", archive(("d/", b""), ("d/f.csv", plain)), rows)
    yield Case("zip with a note of a Mac", archive(("f.csv", plain), ("__MACOSX/._f.csv", b"x")), rows)
    yield Case("zip of two", archive(("a.csv", plain), ("b.csv", plain)), None, "holds 2 files; name one")
    yield Case("zip of zip", archive(("f.zip", archive(("f.csv", plain)))), None, "")
    yield Case("zip of nothing", archive(), None, "archive without files")
    yield Case("zip with a way out", archive(("../../f.csv", plain)), rows)
    yield Case("zip cut short", archive(("f.csv", plain * 100))[:-30], None, "is a damaged archive")
    yield Case("zip bomb", lambda: archive(("f.csv", bomb())), None, "unpacks to over 300 times its size")
    yield Case("a spreadsheet", archive(("[Content_Types].xml", b"x"), ("xl/a.xml", b"x")), None, "office document")
    broken = bytearray(archive(("f.csv", plain * 50)))
    broken[40] ^= 0xFF
    yield Case("zip with a flipped byte", bytes(broken), None, "is damaged")


def columnar() -> Iterator[Case]:
    """Parquet: of every make, and damaged in every way."""
    for name, content, rows, args in parquet_files.sound():
        yield Case(name, content, rows, args=args)
    for name, content, reason, args in parquet_files.unsound():
        yield Case(name, content, None, reason, args=args)
    yield Case("Parquet in gzip", gzip.compress(parquet_files.numbers(2, groups=1)), (("0", "row\n0"), ("1", "row\n1")))
    yield Case(
        "Parquet in zstd, cut short", zstd_compress(parquet_files.numbers(9, groups=1))[:-9], None, "is cut short"
    )


def bomb() -> bytes:
    """Return what packs to next to nothing."""
    return b"a,b\n" + b"0" * (24 * 1024 * 1024)


def late_value(value: str) -> bytes:
    """Return numbers, and far behind them something else."""
    return b"v\n" + b"1\n" * 300_000 + value.encode() + b"\n"


def late_latin() -> bytes:
    """Return text, and behind its sample a byte that is none."""
    return b"n,t\n" + b"1,aaaaaaaaaaaaaa\n" * 80_000 + b"2,caf\xe9\n"


def zstd_compress(data: bytes) -> bytes:
    """Return a frame that ends in a checksum."""
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


def archive(*members: tuple[str, bytes]) -> bytes:
    """Return a ZIP archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def json_lines() -> Iterator[Case]:
    """Lines of JSON, and what only looks like it."""
    good = b'{"n": 1, "t": "a"}\n'
    for name, line, reason in (
        ("half an object", b'{"n": 1', "line 2"),
        ("an array", b"[1]", "line 2"),
        ("a number", b"1", "line 2"),
        ("null", b"null", "line 2"),
        ("two objects", b'{"n": 1} {"n": 2}', "line 2"),
        ("single quotes", b"{'n': 1}", "line 2"),
        ("NaN", b'{"n": NaN}', "line 2"),
        ("a trailing comma", b'{"n": 1,}', "line 2"),
        ("NUL", b'{"n": 1, "t": "\\u0000"}', "line 2"),
        ("half a surrogate", b'{"n": 1, "t": "\\ud800"}', "line 2"),
        ("a late key", b'{"n": 1, "u": 2}', ""),
    ):
        rows = (("1", "a", None), ("1", None, "2")) if name == "a late key" else None
        yield Case(f"jsonl: {name}", good + line + b"\n", rows, reason)
    yield Case("jsonl: keys twice", b'{"n": 1, "n": 2}\n', (("2",),))
    yield Case("jsonl: no keys", b"{}\n{}\n", None, "holds no JSON object")
    yield Case("jsonl: keys of one name", b'{"a b": 1, "a-b": 2}\n', (("1", "2"),))
    yield Case("jsonl: deep", b'{"n": ' + b"[" * 3_000 + b"]" * 3_000 + b"}\n", None, "")
    yield Case("jsonl: quotes in keys", b'{"it\'s": 1}\n', (("1",),))
    yield Case("jsonl: pretty", b'{\n  "n": 1\n}\n', None, "not JSON Lines")
    yield Case("jsonl: one array", b'[{"n": 1}]\n', None, "not JSON Lines")
    yield Case("jsonl: big numbers", b'{"n": 1e400}\n', ((ANY,),), types=("numeric",))
    yield Case("jsonl asked for", b"n,t\n1,a\n", None, "holds no JSON object", args={"format": "jsonl"})


def odd_headers() -> Iterator[Case]:
    """Headers that are no names."""
    for name, header, columns in (
        ("spaces", "Trade Date, Price ", ("trade_date", "price")),
        ("twice", "a,a", ("a", "a_2")),
        ("empty", ",b", ("column_1", "b")),
        ("signs", "%,#", ("column_1", "column_2")),
        ("digits", "2024,2025", ("_2024", "_2025")),
        ("quotes", '"a ""b""","c\nd"', ("a_b", "c_d")),
        ("words of SQL", "select,from", ("select", "from")),
        ("long", f"{'x' * 100},{'x' * 100}", ("x" * 63, "x" * 61 + "_2")),
        ("other scripts", "\u0426\u0435\u043d\u0430,\u540d\u524d", ("\u0446\u0435\u043d\u0430", "\u540d\u524d")),
        ("upper case", "A,B", ("a", "b")),
    ):
        yield Case(
            f"header: {name}", f"{header}\n1,2\n".encode(), (("1", "2"),), types=None, args={"_columns": columns}
        )


def large() -> Iterator[Case]:
    """Records and fields of unusual sizes."""
    field = "x" * 2_000_000
    yield Case("a field of 2 MB", f"n,t\n1,{field}\n2,b\n".encode(), (("1", field), ("2", "b")))
    yield Case("a line of 65 MB", lambda: b"n,t\n1,a\n2," + b"x" * BIG + b"\n", None, "line 3: a record is longer than")
    yield Case(
        "a quote over 65 MB", lambda: b'n,t\n1,a\n2,"' + b"x\n" * (BIG // 2), None, "line 3: a record is longer than"
    )
    header = ",".join(f"column number {n}" for n in range(1_000))
    yield Case("a header of 1,000 names", f"{header}\n{',' * 999}\n".encode(), ((None,) * 1_000,))
