"""Where a load stands: what its checkpoints say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dataloader.connectors.delimited.cutter import Place
from dataloader.connectors.files import FileVersion
from dataloader.connectors.files.source import FileChangedError
from dataloader.exceptions import PermanentError


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """Whole records of a file, from one place to another."""

    begin: Place
    end: Place

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.end.offset - self.begin.offset


@dataclass(frozen=True, slots=True)
class LoadState:
    """How far a load has come.

    Attributes:
        files: Name, size and token of every file, in order; the same at every attempt.
        file: Number of the file that is being loaded.
        offset: Bytes of its content that are loaded, rows if it is Parquet; 0 before its first row.
        line: Line that begins there.
        ahead: Segments beyond that are loaded already: they were beside others that are not.
        rows: Rows loaded, of all files.
        rejected: Rows rejected, of all files.
        bytes: Bytes loaded of the files before.
        finished: Whether nothing is left to do.
    """

    files: tuple[tuple[str, int | None, str], ...]
    file: int = 0
    offset: int = 0
    line: int = 1
    ahead: tuple[Segment, ...] = ()
    rows: int = 0
    rejected: int = 0
    bytes: int = 0
    finished: bool = False

    @classmethod
    def of(cls, files: Sequence[tuple[str, FileVersion]], checkpoint: Mapping[str, Any] | None) -> LoadState:
        """Return where to go on: at the beginning, or where the checkpoint says.

        Raises:
            FileChangedError: A file is no longer the one that was begun.
            PermanentError: The files are no longer the same.
        """
        now = tuple((name, version.size, version.token) for name, version in files)
        if checkpoint is None:
            return cls(now)
        ahead = tuple(
            Segment(Place(**segment["begin"]), Place(**segment["end"])) for segment in checkpoint.get("ahead", ())
        )
        named = tuple((str(n), s, str(t)) for n, s, t in checkpoint["files"])
        then = cls(**{**checkpoint, "files": named, "ahead": ahead})
        if [name for name, _, _ in then.files] != [name for name, _, _ in now]:
            raise PermanentError(
                f"the files of this load are no longer those it began with{_difference(then, now)}; trigger a new job"
            )
        for before, after in zip(then.files, now, strict=True):
            if before != after:
                raise FileChangedError(after[0])
        return then

    @property
    def place(self) -> Place:
        """Where in the file to go on."""
        return Place(self.offset, self.line)

    @property
    def is_in_last_file(self) -> bool:
        """Whether no file comes after the one that is being loaded."""
        return self.file + 1 >= len(self.files)

    @property
    def total_bytes(self) -> int | None:
        """Bytes of all files, None if one does not say."""
        sizes = [size for _, size, _ in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def after(self, place: Place, *, rows: int, rejected: int) -> LoadState:
        """Return the state behind a chunk."""
        return replace(
            self, offset=place.offset, line=place.line, rows=self.rows + rows, rejected=self.rejected + rejected
        )

    def after_segment(self, segment: Segment, *, rows: int, rejected: int) -> LoadState:
        """Return the state behind a segment that was loaded beside others; segments that meet become one."""
        waiting = sorted((*self.ahead, segment))
        place = self.place
        while waiting and waiting[0].begin.offset <= place.offset:
            place = max(place, waiting.pop(0).end)
        return replace(
            self,
            offset=place.offset,
            line=place.line,
            ahead=tuple(waiting),
            rows=self.rows + rows,
            rejected=self.rejected + rejected,
        )

    def holes(self) -> list[Segment]:
        """Return what is not loaded before the last segment that is."""
        begins = [self.place, *(segment.end for segment in self.ahead)]
        between = (Segment(begin, segment.begin) for begin, segment in zip(begins, self.ahead, strict=False))
        return [hole for hole in between if hole.size]

    def next_file(self, *, read_bytes: int) -> LoadState:
        """Return the state at the beginning of the next file; finished behind the last."""
        return replace(
            self,
            file=self.file + 1,
            bytes=self.bytes + read_bytes,
            offset=0,
            line=1,
            finished=self.is_in_last_file,
        )

    def as_json(self) -> dict[str, object]:
        """Return what a checkpoint keeps."""
        return asdict(self)


def _difference(then: LoadState, now: Sequence[tuple[str, int | None, str]]) -> str:
    """Return which files came, and which are gone, for a message: the first of either."""
    old, new = {name for name, _, _ in then.files}, {name for name, _, _ in now}
    told = ((sorted(new - old), "is new"), (sorted(old - new), "is gone"))
    parts = [
        f"{names[0]} {what}" + (f" (and {len(names) - 1} more)" if names[1:] else "") for names, what in told if names
    ]
    return f": {', '.join(parts)}" if parts else ": their order is another"
