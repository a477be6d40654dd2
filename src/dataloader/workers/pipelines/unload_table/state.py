"""How far an unload has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from dataloader.connectors.sql.source import Bounds
from dataloader.connectors.unloading import Cut, Part


@dataclass(frozen=True, slots=True)
class UnloadState:
    """What checkpoints of an unload say.

    Attributes:
        columns: Name to type, as the first part has them.
        key: Columns that the rows are taken in the order of; none: all at once.
        mark: What stands in the names of parts, where the plain ones are taken.
        after: Texts of the key of the last row written; empty before the first.
        row_bytes: About how many bytes a row takes, by the last part; 0 before the first.
        about_rows: How many rows there were to be, as the source's planner guessed.
        parts: What is written.
        complete: Whether all parts are.
        finished_at: When they were, as text.
        replaced: Parts of the unload before this one, to be removed once this one is in place.
    """

    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...] = ()
    mark: str = ""
    after: tuple[str, ...] = ()
    row_bytes: float = 0
    about_rows: int = 0
    parts: tuple[Part, ...] = ()
    complete: bool = False
    finished_at: str = ""
    replaced: tuple[str, ...] = ()

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> UnloadState:
        """Return what a checkpoint says."""
        texts = {name: tuple(checkpoint[name]) for name in ("key", "after", "replaced")}
        columns = tuple((str(name), str(kind)) for name, kind in checkpoint["columns"])
        parts = tuple(Part(*part) for part in checkpoint["parts"])
        return cls(**{**checkpoint, **texts, "columns": columns, "parts": parts})

    def as_json(self) -> dict[str, object]:
        """Return what a checkpoint keeps; parts as lists, for there may be thousands."""
        parts = [[part.name, part.stored, part.rows, part.bytes, part.sha256] for part in self.parts]
        return asdict(replace(self, parts=())) | {"parts": parts}

    @property
    def bounds(self) -> Bounds:
        """The rows that are left."""
        return Bounds(self.key, self.after or None)

    @property
    def rows(self) -> int:
        """Rows written."""
        return sum(part.rows for part in self.parts)

    @property
    def total(self) -> int:
        """Rows there are: a guess until all are written."""
        return self.rows if self.complete else max(self.rows, self.about_rows)

    @property
    def bytes(self) -> int:
        """Bytes written."""
        return sum(part.bytes for part in self.parts)

    def name(self, suffix: str) -> str:
        """Return the name of the next part."""
        return f"part-{len(self.parts) + 1:05}{self.mark}{suffix}"

    def with_part(self, cut: Cut, last: tuple[str, ...]) -> UnloadState:
        """Return the state behind a part.

        Args:
            cut: What was written.
            last: The key of its last row; empty when it holds all rows.
        """
        row_bytes = cut.text_bytes / max(cut.part.rows, 1)
        return replace(
            self, after=last, row_bytes=row_bytes, parts=(*self.parts, cut.part), complete=not last or self.complete
        )
