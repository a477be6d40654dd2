"""Unloads into a bucket: parts get their names there at once, and the manifest comes last."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from fsspec import AbstractFileSystem

from dataloader.connectors.files.bucket import named
from dataloader.connectors.unloading.part import Part
from dataloader.connectors.unloading.publishing import (
    FOLDER,
    MANIFEST,
    MANIFEST_BYTES,
    check_none,
    gone,
    is_part,
    mark_of,
    owners,
    parse,
    part_names,
    rendered,
    strange,
)
from dataloader.exceptions import DataloaderError, PermanentError

_BLOCK_BYTES = 8 * 1024 * 1024
_MOST_BYTES = 10_000 * _BLOCK_BYTES
"""A store takes an object in 10,000 pieces."""


@dataclass(frozen=True, slots=True)
class BucketShelf:
    """A folder of a bucket, and the objects in it of one job; every method blocks and belongs into a thread.

    A job is told of by an object of its own as long as it may have left something.

    Attributes:
        store: Its library.
        name: The folder's address, without a slash at its end.
        job_id: Whose objects.
    """

    store: AbstractFileSystem = field(repr=False)
    name: str
    job_id: UUID

    def create(self) -> None:
        """Tell of the job.

        Raises:
            PermanentError: We may not.
        """
        self._put(f"{FOLDER}{self.job_id}", b"")

    def mark(self) -> str:
        """Return what stands in the names of this job's parts."""
        return mark_of(self.job_id)

    def place(self, name: str, run: str) -> BucketPlace:
        """Return where a run writes a part: under a name of its own at once, for none can be changed in a bucket."""
        stem, dot, suffix = name.partition(".")
        return BucketPlace(self.store, self.name, f"{stem}-{run}{dot}{suffix}")

    def check_free(self) -> None:
        """Accept a folder in which nothing has been unloaded; what jobs left that are told of is nothing.

        Raises:
            PermanentError: A manifest or parts lie in it.
        """
        marks = tuple(f"{mark_of(job_id)}-" for job_id in self._owners())
        parts = [name for name in self._found("part-") if is_part(name) and not any(mark in name for mark in marks)]
        manifest = [name for name in self._found(MANIFEST) if name == MANIFEST]
        check_none(self.name, manifest + parts)

    def check_kept(self, parts: Iterable[Part]) -> None:
        """Accept parts of an earlier attempt: objects of the same size and ETag.

        Raises:
            PermanentError: One is gone, or is another.
        """
        found = self._found("part-")
        for part in parts:
            if (part.bytes, part.stored) != _version(found.get(part.name, {})):
                raise gone(self.name, part.name)

    def compared(self, parts: Iterable[Part]) -> Generator[str, None, None]:
        """Accept parts of an earlier attempt; what has the same ETag need not be read.

        Raises:
            PermanentError: One is gone, or is another.
        """
        self.check_kept(parts)
        yield from ()

    def present(self) -> Mapping[str, object] | None:
        """Return the manifest in the folder, None if there is none.

        Raises:
            PermanentError: It is not one of an unload.
        """
        found = self._found(MANIFEST).get(MANIFEST)
        if found is None:
            return None
        with named(self._at(MANIFEST), "written"):
            manifest = parse(self.store.cat_file(self._at(MANIFEST))) if found["size"] <= MANIFEST_BYTES else None
        if manifest is None:
            raise strange(self.name)
        return manifest

    def publish(self, parts: Sequence[Part], manifest: Mapping[str, object]) -> None:
        """Write the manifest; until then no reader knows of the parts.

        Raises:
            PermanentError: A part is gone.
        """
        if (self.present() or {}).get("job_id") == str(self.job_id):
            return
        self.check_kept(parts)
        self._put(MANIFEST, rendered(manifest))

    def others(self) -> list[UUID]:
        """Return the other jobs that are told of here."""
        return [job_id for job_id in self._owners() if job_id != self.job_id]

    def remove(self, names: Iterable[str]) -> None:
        """Remove parts that the manifest does not name."""
        named_parts = set(part_names(self.present() or {}))
        for name in names:
            if is_part(name) and name not in named_parts:
                self._drop(name)

    def clear(self) -> None:
        """Remove what the job has written and no manifest names, and tell of it no longer."""
        mark = f"{self.mark()}-"
        self.remove([name for name in self._found("part-") if mark in name])
        with suppress(DataloaderError):
            self._abort(mark)
        self._drop(f"{FOLDER}{self.job_id}")

    def _abort(self, mark: str) -> None:
        """Let go of pieces that a killed run has sent; not every store and every right lists them."""
        bucket, key, _ = self.store.split_path(self._at("part-"))
        asked: dict[str, str] = {"Bucket": bucket, "Prefix": key}
        more = True
        with named(self.name, "written"):
            while more:
                page = self.store.call_s3("list_multipart_uploads", **asked)
                for upload in page.get("Uploads", ()):
                    if mark in upload["Key"]:
                        self.store.abort_mpu(bucket, upload["Key"], upload["UploadId"])
                more = bool(page.get("IsTruncated"))
                asked |= {
                    "KeyMarker": page.get("NextKeyMarker", ""),
                    "UploadIdMarker": page.get("NextUploadIdMarker", ""),
                }

    def _owners(self) -> list[UUID]:
        return owners(self._found(FOLDER))

    def _found(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Return what is known of objects right in the folder whose names begin so."""
        with named(self.name, "written"):
            found = self.store.find(self.name, prefix=prefix, maxdepth=1, detail=True)
        return {path.rpartition("/")[2]: info for path, info in found.items()}

    def _put(self, name: str, content: bytes) -> None:
        with named(self._at(name), "written"):
            self.store.pipe_file(self._at(name), content)

    def _drop(self, name: str) -> None:
        with named(self._at(name), "written"):
            self.store.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self.name}/{name}"


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """An object of a bucket.

    Attributes:
        store: Its library.
        folder: Address of its folder.
        name: What it is called there.
    """

    store: AbstractFileSystem = field(repr=False)
    folder: str
    name: str

    def open(self) -> BucketSink:
        """Begin to send the object."""
        return BucketSink(self.store, f"{self.folder}/{self.name}")


class BucketSink:
    """An object that is sent in pieces; it is there once all have come, or not at all.

    Args:
        store: The library.
        address: Where to.
        most_bytes: That it takes.
    """

    def __init__(self, store: AbstractFileSystem, address: str, *, most_bytes: int = _MOST_BYTES) -> None:
        self._store = store
        self._address = address
        self._most_bytes = most_bytes
        self._ended = False
        with named(address, "written"):
            self._file = store.open(address, "wb", block_size=_BLOCK_BYTES, autocommit=False)

    def write(self, data: bytes) -> None:
        """Add bytes; a piece is sent once there are enough.

        Raises:
            PermanentError: There are too many for an object.
        """
        if self._file.tell() + len(data) > self._most_bytes:
            raise PermanentError(
                f"{self._address} would be larger than {self._most_bytes:,} bytes, the most of a part in a bucket; "
                "give a key to cut by, or a smaller part_bytes or part_rows"
            )
        with named(self._address, "written"):
            self._file.write(data)

    def finish(self) -> str:
        """Let the object be there, and return its ETag."""
        with named(self._address, "written"):
            self._file.close()
            self._file.commit()
            self._ended = True
            return _version(self._store.info(self._address))[1]

    def close(self) -> None:
        """Give up an object that is not finished: the pieces that were sent are let go."""
        if not self._ended:
            self._ended = self._file.closed = True
            with suppress(DataloaderError), named(self._address, "written"):
                self._file.discard()


def _version(info: Mapping[str, Any]) -> tuple[int, str]:
    """Return size and ETag of an object."""
    return int(info.get("size", -1)), str(info.get("ETag", "")).strip('"')
