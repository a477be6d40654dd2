"""The end of an unload: its parts get their names at the target, and the manifest comes last."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from dataloader.connectors.unloading.part import Part
from dataloader.connectors.unloading.place import LocalPlace, storing, sync_directory
from dataloader.exceptions import PermanentError

MANIFEST = "manifest.json"
FOLDER = ".unload-"
_PART = re.compile(r"part-\d{5,}(-[0-9a-f]{12}(-[0-9a-f]{8})?)?\.(csv(\.gz)?|parquet)")
"""What parts are called: the second mark stands in buckets, where each run gives names of its own."""

MANIFEST_BYTES = 64 * 1024 * 1024
_READ_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Shelf:
    """A target directory, and the hidden folder in it of one job; every method blocks and belongs into a thread.

    Attributes:
        target: The directory, links resolved.
        job_id: Whose folder.
    """

    target: Path
    job_id: UUID

    @property
    def name(self) -> str:
        """The target, for messages."""
        return str(self.target)

    @property
    def folder(self) -> Path:
        """Where parts lie until all are there."""
        return self.target / f"{FOLDER}{self.job_id}"

    def create(self) -> None:
        """Create the target and the folder unless they exist.

        Raises:
            PermanentError: We may not.
        """
        with storing(self.target):
            self.target.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(exist_ok=True)
            sync_directory(self.target)
            sync_directory(self.target.parent)

    def mark(self) -> str:
        """Return what stands in the names of this job's parts: nothing, unless others have taken the plain ones."""
        return mark_of(self.job_id) if self.parts() else ""

    def place(self, name: str, run: str) -> LocalPlace:
        """Return where a run writes a part."""
        return LocalPlace(self.folder, name, f"{name}.{run}")

    def check_free(self) -> None:
        """Accept a target in which nothing has been unloaded.

        Raises:
            PermanentError: A manifest or parts lie in it.
        """
        check_none(self.name, [name for name in (MANIFEST, *self.parts()) if (self.target / name).exists()])

    def parts(self) -> list[str]:
        """Return the names at the target that look like parts, in order."""
        with storing(self.target):
            names = os.listdir(self.target) if self.target.is_dir() else []  # noqa: PTH208 - names are wanted
        return sorted(filter(is_part, names))

    def check_kept(self, parts: Iterable[Part]) -> None:
        """Accept parts of an earlier attempt, in the folder or at the target already.

        Raises:
            PermanentError: One is gone, or has another size.
        """
        with storing(self.target):
            lost = [part.name for part in parts if part.bytes not in (_size(path) for path in self._paths(part))]
        if lost:
            raise gone(self.folder, lost[0])

    def compared(self, parts: Iterable[Part]) -> Generator[str, None, None]:
        """Read parts of an earlier attempt, and compare their checksums; yield the name of each, block by block.

        Raises:
            PermanentError: One is gone, or is not what was written.
        """
        for part in parts:
            found = hashlib.sha256()
            path = next((path for path in self._paths(part) if _size(path) == part.bytes), None)
            if path is None:
                raise gone(self.folder, part.name)
            with storing(path), path.open("rb", buffering=0) as file:
                while block := file.read(_READ_BYTES):
                    found.update(block)
                    yield part.name
            if found.hexdigest() != part.sha256:
                raise gone(self.folder, part.name)

    def present(self) -> Mapping[str, object] | None:
        """Return the manifest at the target, None if there is none.

        Raises:
            PermanentError: It is not one of an unload.
        """
        manifest = _read(self.target / MANIFEST)
        if manifest is None and (self.target / MANIFEST).exists():
            raise strange(self.name)
        return manifest

    def publish(self, parts: Sequence[Part], manifest: Mapping[str, object]) -> None:
        """Put parts in place and then the manifest; what is in place already is left there.

        Raises:
            PermanentError: A part is gone.
            UnavailableError: The disk is full.
        """
        if (self.present() or {}).get("job_id") == str(self.job_id):
            return
        self.check_kept(parts)
        staged = self.folder / MANIFEST
        with storing(self.target):
            _write(staged, manifest)
            for part in parts:
                stored, final = self._paths(part)
                if _size(stored) is not None:
                    stored.rename(final)
            sync_directory(self.target)
            staged.rename(self.target / MANIFEST)
            sync_directory(self.target)

    def others(self) -> list[UUID]:
        """Return the other jobs that have a folder here."""
        with storing(self.target):
            found = owners(path.name for path in self.target.glob(f"{FOLDER}*"))
        return [job_id for job_id in found if job_id != self.job_id]

    def remove(self, names: Iterable[str]) -> None:
        """Remove parts from the target that the manifest there does not name."""
        named = set(part_names(self.present() or {}))
        with storing(self.target):
            for name in names:
                if is_part(name) and name not in named:
                    (self.target / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the folder, and the parts of a publication that was begun and not ended."""
        begun = _read(self.folder / MANIFEST)
        if begun is not None:
            self.remove(part_names(begun))
        with storing(self.folder), suppress(FileNotFoundError):
            shutil.rmtree(self.folder)

    def _paths(self, part: Part) -> tuple[Path, Path]:
        return self.folder / part.stored, self.target / part.name


def is_part(name: str) -> bool:
    """Return whether a part may be called so."""
    return _PART.fullmatch(name) is not None


def mark_of(job_id: UUID) -> str:
    """Return what tells the names of a job's parts from those of others."""
    return f"-{job_id.hex[-12:]}"


def owners(names: Iterable[str]) -> list[UUID]:
    """Return whose hidden folders these are, without those that we gave no name."""
    return [job_id for job_id in map(_owner, names) if job_id is not None]


def check_none(target: str, found: Sequence[str]) -> None:
    """Refuse a target that holds something of an unload.

    Raises:
        PermanentError: It does.
    """
    if found:
        raise PermanentError(
            f"{target} holds {found[0]} of an earlier unload; set overwrite=true to replace it, or name another"
        )


def gone(where: object, name: str) -> PermanentError:
    """Return the error of a part that an earlier attempt wrote."""
    return PermanentError(
        f"{name} of an earlier attempt is gone from {where}, or is not what was written; "
        "trigger a new job, and let every worker see the same directory"
    )


def strange(target: str) -> PermanentError:
    """Return the error of a manifest that is somebody else's."""
    return PermanentError(f"{target}/{MANIFEST} is not the manifest of an unload; move it away")


def part_names(manifest: Mapping[str, object]) -> list[str]:
    """Return the names of the parts that a manifest lists."""
    parts = manifest.get("parts")
    return [str(part.get("name")) for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def parse(content: bytes) -> Mapping[str, object] | None:
    """Return a manifest; None if it cannot be understood."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("parts"), list) else None


def rendered(manifest: Mapping[str, object]) -> bytes:
    """Return a manifest as a file."""
    return f"{json.dumps(manifest, ensure_ascii=False, indent=2)}\n".encode()


def _read(path: Path) -> Mapping[str, object] | None:
    """Return a manifest; None if there is none that can be understood."""
    with storing(path):
        try:
            return parse(path.read_bytes()) if path.stat().st_size <= MANIFEST_BYTES else None
        except FileNotFoundError:
            return None


def _write(path: Path, manifest: Mapping[str, object]) -> None:
    with path.open("wb") as file:
        file.write(rendered(manifest))
        file.flush()
        os.fsync(file.fileno())


def _size(path: Path) -> int | None:
    """Return the size of a file, None if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _owner(name: str) -> UUID | None:
    """Return whose folder it is; None for a name that we did not give."""
    try:
        return UUID(name.removeprefix(FOLDER))
    except ValueError:
        return None
