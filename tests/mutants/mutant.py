"""What a mutant is, and how it gets into a copy of the code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SOURCE = "src/dataloader"
SQL = f"{SOURCE}/storage/sql"
FUNCTIONS = f"{SOURCE}/storage/migrations/sql/0001"
WORKERS = f"{SOURCE}/workers"
API = f"{SOURCE}/api/v1"


class StaleMutantError(Exception):
    """The code has changed, and the mutant with it must."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One change.

    Attributes:
        file: Path from the root of the project.
        old: Text that stands in the file exactly once.
        new: What is put in its place.
    """

    file: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Change the file below a root.

        Raises:
            StaleMutantError: The old text is not there, or not once.
        """
        path = root / self.file
        text = path.read_text("utf-8") if path.exists() else ""
        if (count := text.count(self.old)) != 1:
            raise StaleMutantError(f"{self.file}: this text is there {count} times instead of once:\n{self.old}")
        path.write_text(text.replace(self.old, self.new), "utf-8")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault, and who must find it.

    Attributes:
        name: What is broken.
        harm: What it would do to somebody.
        edits: The changes that make it.
        tests: Arguments of pytest that select what must fail, as few tests as show it.
    """

    name: str
    harm: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]

    def apply(self, root: Path) -> None:
        """Break the code below a root.

        Raises:
            StaleMutantError: The code is not what the mutant was made for.
        """
        for edit in self.edits:
            edit.apply(root)
