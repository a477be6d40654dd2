"""A piece of a file into its table: the ways of modes, formats and bad rows."""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass, field

from dataloader.connectors.identifiers import TableName, quote_ident, quote_text
from dataloader.connectors.loading import BadRow, CsvFormat, Piece
from dataloader.connectors.loading.copying import copy_csv, copy_good_rows
from dataloader.connectors.loading.moves import STAGE, Move, straight
from dataloader.connectors.loading.rows import RowError, RowProblem, excerpt
from dataloader.connectors.loading.staging import create_stage, move_good_rows, move_stage
from dataloader.connectors.tables import Connection
from dataloader.exceptions import PermanentError
from dataloader.workers.pipelines.load_file.args import LoadFileArgs
from dataloader.workers.pipelines.load_file.columnar import ColumnarLayout
from dataloader.workers.pipelines.load_file.formats import Layout
from dataloader.workers.pipelines.target import Binding

_LINE = "line"
_NUMBERS = frozenset({"numeric", "bigint", "integer", "smallint", "double precision", "real"})
_NAMED_BYTES = 40
_IS_OBJECT = "jsonb_typeof(line) = 'object'"
_UNKNOWN_KEYS = f"""
select string_agg(distinct key, ', ' order by key) from {STAGE.sql}, jsonb_object_keys(line) key
 where not key = any($1::text[])
"""  # noqa: S608 - a constant


class TooManyRejectsError(PermanentError):
    """More rows were set aside than a load may."""

    code = "too_many_rejects"

    def __init__(self, first: BadRow, *, most: int) -> None:
        where = f"{first.source}, line {first.line}" if first.line else first.source
        super().__init__(
            f"more than max_rejects={most} rows were rejected; the first of this chunk: {where}: {first.reason}: "
            f"{excerpt(first.row)}"
        )


@dataclass(slots=True)
class Written:
    """What became of a piece.

    Attributes:
        rows: Rows that are in the table.
        rejects: Those that it did not take.
        allowed: How many these may be.
        most: How many of all chunks may be.
    """

    rows: int = 0
    rejects: list[BadRow] = field(default_factory=list)
    allowed: int = 0
    most: int = 0

    def reject(self, row: BadRow) -> None:
        """Set a row aside.

        Raises:
            TooManyRejectsError: There are more than allowed.
        """
        self.rejects.append(row)
        if len(self.rejects) > self.allowed:
            raise TooManyRejectsError(self.rejects[0], most=self.most)


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes pieces of one file.

    Attributes:
        source: The file, for messages.
        encoding: PostgreSQL's name of what it is sent.
    """

    args: LoadFileArgs
    layout: Layout | ColumnarLayout
    binding: Binding
    source: str
    encoding: str

    async def write(self, conn: Connection, data: AsyncIterable[bytes], *, before: int, rejectable: int) -> Written:
        """Write whole records.

        Args:
            conn: Inside the chunk's transaction.
            data: The records.
            before: Lines of the file before them.
            rejectable: Rows that may be rejected.

        Raises:
            RowError: A row does not fit, and `on_error` is `fail`.
            TooManyRejectsError: More rows do not fit than may be rejected.
            PermanentError: The records do not fit the table.
        """
        written = await self._written(conn, data, before=before, rejectable=rejectable)
        try:
            await conn.execute("set constraints all immediate")
        except RowProblem as error:
            raise RowError(self.source, error) from None
        return written

    async def _written(self, conn: Connection, data: AsyncIterable[bytes], *, before: int, rejectable: int) -> Written:
        written = Written(allowed=rejectable, most=self.args.max_rejects)
        await conn.execute(self.args.writing.setting)
        move = self._move()
        if move is None:
            written.rows = await self._copy(conn, self.binding.into, data, before=before, written=written)
            return written
        await create_stage(conn, self._staged_columns(), key=move.key)
        written.rows = await self._copy(conn, STAGE, data, before=before, written=written)
        if self.layout.kind == "jsonl":
            written.rows -= await self._check_lines(conn)
        lines = before if self.layout.kind == "jsonl" else None
        if self.args.on_error == "fail":
            await move_stage(conn, move, source=self.source, before=lines)
        else:
            written.rows -= await move_good_rows(conn, move, source=self.source, reject=written.reject, before=lines)
        return written

    async def _copy(
        self, conn: Connection, into: TableName, data: AsyncIterable[bytes], *, before: int, written: Written
    ) -> int:
        form = self._form()
        if self.args.on_error == "fail":
            return await copy_csv(conn, into, data, form, source=self.source, before=before)
        whole = b"".join([block async for block in data])
        return await copy_good_rows(conn, into, Piece(self.source, before, whole), form, reject=written.reject)

    def _form(self) -> CsvFormat:
        if self.layout.kind == "jsonl":
            return CsvFormat(self.layout.dialect, (_LINE,), encoding=self.encoding)
        names = self.binding.names
        if self.layout.dialect is None:
            return CsvFormat(None, names, encoding=self.encoding, binary=self.layout.binary)
        others = tuple(name for name in names if name not in self.binding.texts)
        return CsvFormat(self.layout.dialect, names, self.args.null, others, self.encoding)

    def _staged_columns(self) -> dict[str, str]:
        if self.layout.kind == "jsonl":
            conditions = " and ".join([_IS_OBJECT, *self._have_key()])
            return {_LINE: f'jsonb constraint "{self._must_be()}" check ({_LINE} is null or {conditions})'}
        return {name: "text" if self._is_rewritten(kind) else kind for name, kind in self.binding.columns.items()}

    def _is_rewritten(self, kind: str) -> bool:
        """Return whether values of a type are written in a way the server does not read."""
        written = self.layout.dialect is not None and not self.args.writing.plain_numbers
        return written and kind.partition("(")[0] in _NUMBERS

    @property
    def _merge_key(self) -> tuple[str, ...]:
        return self.binding.key if self.args.mode == "merge" else ()

    def _have_key(self) -> list[str]:
        """Return the conditions that a line has what tells rows apart."""
        pairs = zip(self.layout.fields, self.binding.names, strict=True)
        return [f"line ->> {quote_text(key)} is not null" for key, name in pairs if name in self._merge_key]

    def _must_be(self) -> str:
        """Return what a line must be, for the server's message."""
        key = ", ".join(self._merge_key).replace('"', '""')
        return f"an object with {key}" if key and len(key.encode()) < _NAMED_BYTES else "an object"

    def _move(self) -> Move | None:
        """Return how rows get from the stage into the table; None if they need no stage."""
        key = self._merge_key
        if self.layout.kind == "jsonl":
            return Move(self.binding.into, self._extracted(), key, (_LINE,), f"{_LINE} is not null")
        if not any(self._is_rewritten(kind) for kind in self.binding.columns.values()):
            return straight(self.binding.into, self.binding.names, key=key) if key else None
        values = {name: self._read(name, kind) for name, kind in self.binding.columns.items()}
        return Move(self.binding.into, values, key, self.binding.names)

    def _read(self, name: str, kind: str) -> str:
        column = quote_ident(name)
        return f"{self.args.writing.number_sql(column)}::{kind}" if self._is_rewritten(kind) else column

    def _extracted(self) -> dict[str, str]:
        """Return the expression of each column over a line's object."""
        pairs = zip(self.layout.fields, self.binding.columns.items(), strict=True)
        return {name: _extract(key, kind, name in self.binding.texts) for key, (name, kind) in pairs}

    async def _check_lines(self, conn: Connection) -> int:
        """Refuse keys that would be dropped without a word; return how many lines are blank.

        Raises:
            PermanentError: A line has a key that no column takes.
        """
        unknown = await conn.fetchval(_UNKNOWN_KEYS, list(self.layout.fields))
        if unknown:
            raise PermanentError(
                f"{self.source} has keys that its first lines lack: {unknown}; name them in `columns` to load them"
            )
        blank: int = await conn.fetchval(f"select count(*) from {STAGE.sql} where line is null")  # noqa: S608
        return blank


def _extract(key: str, kind: str, texty: bool) -> str:
    literal = quote_text(key)
    if kind in {"jsonb", "json"}:
        return f"({quote_ident(_LINE)} -> {literal})::{kind}"
    value = f"({quote_ident(_LINE)} ->> {literal})"
    return value if texty else f"{value}::{kind}"
