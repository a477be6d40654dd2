"""How staged rows go into a table, as SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dataloader.connectors.identifiers import TableName, quote_all, quote_ident, quote_text

STAGE = TableName("pg_temp", "dl_stage")
ORDER = "dl_order_in_stage"
"""The stage's column that counts its rows, from 1."""

_KNOWN = "dl_known_to_target"


@dataclass(frozen=True, slots=True)
class Move:
    """How staged rows go into a table.

    Attributes:
        table: The target.
        values: Column of the target to the SQL expression over the stage's columns.
        key: Names of the columns that tell rows apart, on which the target has a unique key; none to append.
        staged: Names of the stage's columns.
        condition: What staged rows must fulfil to be moved, as SQL.
    """

    table: TableName
    values: Mapping[str, str]
    key: tuple[str, ...]
    staged: tuple[str, ...]
    condition: str = "true"

    @property
    def sql(self) -> str:
        """The statement for the staged rows from `$1` to `$2`.

        Of rows with one key the last wins. A row that is stored as it is gets no new version. The rows go in the
        order of their keys, so that two jobs with the same rows wait and do not deadlock.
        """
        if not self.key:
            return f"{self._head} select {self._names} from {self._parsed} order by {ORDER}"  # noqa: S608
        return f"{self._head} select {self._names} from {self._latest} {self._on_conflict}"  # noqa: S608

    @property
    def parted_sql(self) -> str:
        """The same for rows most of whose keys the target does not have: it looks, and inserts those without more ado.

        A row with `on conflict` costs about twice as much: it is written, locked, looked for and confirmed. It fails
        where somebody else inserts one of the keys meanwhile.
        """
        return (
            f"with latest as materialized (select {self._names}, {self._known} as {_KNOWN} from {self._latest})"  # noqa: S608
            f", fresh as (insert into {self.table.sql} ({self._names})"
            f" select {self._names} from latest where not {_KNOWN})"
            f" {self._head} select {self._names} from latest where {_KNOWN} {self._on_conflict}"
        )

    def some_known_sql(self, rows: int) -> str:
        """The question whether the target has one of the first staged rows.

        It is answered with yes for a target that tells rows apart at the end only, which `on conflict` refuses.
        """
        first = f"(select {self._values} from {STAGE.sql} where {self.condition} limit {rows}) latest"  # noqa: S608
        late = f"select from pg_index where indrelid = {quote_text(self.table.sql)}::regclass and not indimmediate"
        return f"select coalesce(bool_or({self._known}), false) or exists ({late}) from {first}"  # noqa: S608

    @property
    def _names(self) -> str:
        return quote_all(tuple(self.values))

    @property
    def _values(self) -> str:
        return ", ".join(f"{value} as {quote_ident(name)}" for name, value in self.values.items())

    @property
    def _head(self) -> str:
        return f"insert into {self.table.sql} as stored ({self._names})"

    @property
    def _parsed(self) -> str:
        wanted = f"{ORDER} between $1 and $2 and {self.condition}"
        return f"(select {self._values}, {ORDER} from {STAGE.sql} where {wanted}) parsed"  # noqa: S608

    @property
    def _latest(self) -> str:
        key = quote_all(self.key)
        return f"(select distinct on ({key}) {self._names} from {self._parsed} order by {key}, {ORDER} desc) latest"  # noqa: S608

    @property
    def _known(self) -> str:
        """Whether the target has a row's key, looked up one by one: a join may be planned over the whole target."""
        same = " and ".join(f"there.{quote_ident(name)} = latest.{quote_ident(name)}" for name in self.key)
        return f"(select true from {self.table.sql} there where {same} limit 1) is not null"  # noqa: S608

    @property
    def _on_conflict(self) -> str:
        key, changing = quote_all(self.key), tuple(name for name in self.values if name not in self.key)
        if not changing:
            return f"on conflict ({key}) do nothing"
        assignments = ", ".join(f"{quote_ident(name)} = excluded.{quote_ident(name)}" for name in changing)
        old, new = quote_all(changing, prefix="stored."), quote_all(changing, prefix="excluded.")
        differs = f"row({old})::record operator(pg_catalog.*<>) row({new})::record"
        return f"on conflict ({key}) do update set {assignments} where {differs}"


def straight(table: TableName, columns: tuple[str, ...], *, key: tuple[str, ...]) -> Move:
    """Return the move of columns that are staged as the target has them."""
    return Move(table, {name: quote_ident(name) for name in columns}, key, columns)
