"""A piece of a file into its table: the ways of modes, formats and bad rows."""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass, field

from dataloader.connectors.identifiers import TableName, quote_ident
from dataloader.connectors.loading import BadRow, CsvFormat, Piece
from dataloader.connectors.loading.copying import copy_csv, copy_good_rows
from dataloader.connectors.loading.staging import STAGE, Move, create_stage, move_good_rows, move_stage, straight
from dataloader.connectors.tables import Connection
from dataloader.exceptions import PermanentError
from dataloader.workers.pipelines.load_file.args import LoadFileArgs
from dataloader.workers.pipelines.load_file.formats import Layout
from dataloader.workers.pipelines.target import Binding

_LINE = "line"
_NUMBERS = frozenset({"numeric", "bigint", "integer", "smallint", "double precision", "real"})
_STAGED_LINE = {_LINE: "jsonb check (jsonb_typeof(line) = 'object')"}
_UNKNOWN_KEYS = f"""
select string_agg(distinct key, ', ' order by key) from {STAGE.sql}, jsonb_object_keys(line) key
 where not key = any($1::text[])
"""  # noqa: S608 - a constant


@dataclass(slots=True)
class Written:
    """What became of a piece: rows that are in the table, and those that it did not take."""

    rows: int = 0
    rejects: list[BadRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes pieces of one file.

    Attributes:
        source: The file, for messages.
        encoding: PostgreSQL's name of what it is sent.
    """

    args: LoadFileArgs
    layout: Layout
    binding: Binding
    source: str
    encoding: str

    async def write(self, conn: Connection, data: AsyncIterable[bytes], *, before: int) -> Written:
        """Write whole records.

        Args:
            conn: Inside the chunk's transaction.
            data: The records.
            before: Lines of the file before them.

        Raises:
            RowError: A row does not fit, and `on_error` is `fail`.
            PermanentError: The records do not fit the table.
        """
        written = Written()
        if (setting := self.args.writing.setting) is not None:
            await conn.execute(setting)
        move = self._move()
        if move is None:
            written.rows = await self._copy(conn, self.binding.into, data, before=before, written=written)
            return written
        await create_stage(conn, self._staged_columns())
        written.rows = await self._copy(conn, STAGE, data, before=before, written=written)
        if self.layout.kind == "jsonl":
            written.rows -= await self._check_lines(conn)
        if self.args.on_error == "fail":
            await move_stage(conn, move, source=self.source)
        else:
            written.rows -= await move_good_rows(conn, move, source=self.source, reject=written.rejects.append)
        return written

    async def _copy(
        self, conn: Connection, into: TableName, data: AsyncIterable[bytes], *, before: int, written: Written
    ) -> int:
        form = self._form()
        if self.args.on_error == "fail":
            return await copy_csv(conn, into, data, form, source=self.source, before=before)
        whole = b"".join([block async for block in data])
        return await copy_good_rows(conn, into, Piece(self.source, before, whole), form, reject=written.rejects.append)

    def _form(self) -> CsvFormat:
        if self.layout.kind == "jsonl":
            return CsvFormat(self.layout.dialect, (_LINE,), encoding=self.encoding)
        names = self.binding.names
        others = tuple(name for name in names if name not in self.binding.texts)
        return CsvFormat(self.layout.dialect, names, self.args.null, others, self.encoding)

    def _staged_columns(self) -> dict[str, str]:
        if self.layout.kind == "jsonl":
            return _STAGED_LINE
        return {name: "text" if self._is_rewritten(kind) else kind for name, kind in self.binding.columns.items()}

    def _is_rewritten(self, kind: str) -> bool:
        """Return whether values of a type are written in a way the server does not read."""
        return not self.args.writing.plain_numbers and kind.partition("(")[0] in _NUMBERS

    def _move(self) -> Move | None:
        """Return how rows get from the stage into the table; None if they need no stage."""
        key = tuple(self.args.primary_key) if self.args.mode == "merge" else ()
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
    literal = "'" + key.replace("'", "''") + "'"
    if kind in {"jsonb", "json"}:
        return f"({quote_ident(_LINE)} -> {literal})::{kind}"
    value = f"({quote_ident(_LINE)} ->> {literal})"
    return value if texty else f"{value}::{kind}"
