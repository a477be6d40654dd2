"""Names of tables and columns from outside: checked, and quoted before they enter SQL."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dataloader.exceptions import InvalidError

MAX_IDENTIFIER_BYTES = 63
RESERVED_PREFIX = "dl_"
"""How Dataloader's own tables begin; in its schema no pipeline may write to such a name."""

_PART = r'(?:"(?:[^"]|"")*"|[^".]*)'
_TABLE = re.compile(rf"(?:(?P<schema>{_PART})\.)?(?P<name>{_PART})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TableName:
    """A table with its schema, both checked."""

    schema: str
    name: str

    def __post_init__(self) -> None:
        check_identifier(self.schema)
        check_identifier(self.name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        """The name as SQL, quoted."""
        return f"{quote_ident(self.schema)}.{quote_ident(self.name)}"


def check_identifier(name: str) -> str:
    """Return `name` if PostgreSQL can hold it unchanged.

    Raises:
        InvalidError: It is empty, too long, or holds what no name can.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidError("a name holds characters that are not valid text") from None
    if not name or "\0" in name:
        raise InvalidError("a name must not be empty or hold NUL bytes")
    if size > MAX_IDENTIFIER_BYTES:
        raise InvalidError(f"the name {name[:20]!r}... is longer than {MAX_IDENTIFIER_BYTES} bytes")
    return name


def quote_ident(name: str) -> str:
    """Return `name` as a quoted SQL identifier; case and every character are kept."""
    return '"' + check_identifier(name).replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def quote_all(names: tuple[str, ...], *, prefix: str = "") -> str:
    """Return a comma-separated list of quoted names, each behind `prefix`."""
    return ", ".join(f"{prefix}{quote_ident(name)}" for name in names)


def parse_table(text: str, *, schema: str) -> TableName:
    """Read `name` or `schema.name`; an unqualified name lies in `schema`.

    Case is kept. A part that holds a dot or a quote is written as in SQL: `"odd.schema".name`.

    Raises:
        InvalidError: It is not such a name.
    """
    match = _TABLE.fullmatch(text)
    if match is None:
        raise InvalidError(f"{text[:80]!r} is not a table name; expected name or schema.name")
    qualifier = match["schema"]
    return TableName(schema if qualifier is None else _unquote(qualifier), _unquote(match["name"]))


def parse_target(text: str, *, schema: str) -> TableName:
    """Read the name of a table to write to; `schema` is the service's own.

    Raises:
        InvalidError: It is not a table name, or it is one of Dataloader's own tables or lies in a schema of the
            server's own, whose tables are not kept or not to be written.
    """
    table = parse_table(text, schema=schema)
    if table.schema.startswith("pg_") or table.schema == "information_schema":
        raise InvalidError(f"{table} lies in a schema of the server's own; load into a table that is kept")
    if table.schema == schema and table.name.startswith(RESERVED_PREFIX):
        raise InvalidError(f"{text} is reserved: names that begin with {RESERVED_PREFIX} are Dataloader's own")
    return table


def _unquote(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part
