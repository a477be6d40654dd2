"""Rows as pipelines write them (tuples, mappings, dataclasses, models), brought to tuples in column order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Protocol

from pydantic import BaseModel

from dataloader.exceptions import InvalidError


class DataclassRow(Protocol):
    """Any instance of a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[object]]]


NamedRow = Mapping[str, object] | DataclassRow | BaseModel
"""A row that names its columns."""

TupleRow = tuple[object, ...] | list[object]
"""A row of values in column order."""

Row = NamedRow | TupleRow


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one shape.

    Attributes:
        columns: Names in the order of the values; None means all columns of the table in its own order.
        records: Tuples of values, all of one length.
    """

    columns: tuple[str, ...] | None
    records: list[tuple[object, ...]]


def read_batch(rows: Iterable[Row], *, columns: Sequence[str] | None = None) -> Batch:
    """Bring rows to one shape; named rows take their columns from the first one unless they are given.

    Raises:
        InvalidError: The rows differ in their columns, or a column is named twice.
    """
    names = None if columns is None else unique_names(columns)
    items = list(rows)
    if not items:
        return Batch(names, [])
    if isinstance(items[0], tuple | list):
        width = len(items[0]) if names is None else len(names)
        return Batch(names, [_read_tuple(row, width) for row in items])
    names = names or unique_names(tuple(read_named(items[0])))
    return Batch(names, [_pick(row, names) for row in items])


def read_named(row: Row) -> Mapping[str, object]:
    """Return a row's values by column name; the values are not converted.

    Raises:
        InvalidError: The row does not name its columns.
    """
    if isinstance(row, Mapping):
        return row
    if isinstance(row, BaseModel):
        return dict(row)
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    raise InvalidError(f"a row must name its columns (mapping, dataclass or model), not be a {type(row).__name__}")


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return column names as a tuple.

    Raises:
        InvalidError: There are none, or one comes twice.
    """
    if isinstance(names, str) or not names or len(set(names)) != len(names):
        raise InvalidError("columns must be named, each once")
    return tuple(names)


def _read_tuple(row: Row, width: int) -> tuple[object, ...]:
    if not isinstance(row, tuple | list):
        raise InvalidError("rows in column order and rows that name their columns cannot be mixed")
    if len(row) != width:
        raise InvalidError(f"a row has {len(row)} values where {width} are expected")
    return tuple(row)


def _pick(row: Row, names: tuple[str, ...]) -> tuple[object, ...]:
    values = read_named(row)
    if len(values) != len(names) or any(name not in values for name in names):
        differing = ", ".join(sorted(map(str, values.keys() ^ set(names))))
        raise InvalidError(f"the rows differ in their columns: {differing}")
    return tuple(values[name] for name in names)
