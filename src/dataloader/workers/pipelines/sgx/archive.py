"""The ZIP that a day's file comes in, unpacked within bounds whatever its own headers say."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from dataloader.exceptions import SourceError

MAX_ARCHIVE_BYTES = 16 * 1024 * 1024
MAX_BYTES = 64 * 1024 * 1024
MAX_RATIO = 200

_MAGIC = b"PK\x03\x04"
_ENCRYPTED = 0x1
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Those that `zipfile` can unpack a bounded part of; the others it unpacks whole, however little is read."""

_DAMAGES = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, NotImplementedError, ValueError)


def is_archive(document: bytes) -> bool:
    """Return whether a document is an archive at all; a missing key is answered with a page."""
    return document.startswith(_MAGIC)


def unpack(document: bytes) -> bytes:
    """Return the content of an archive's only file.

    Raises:
        SourceError: It is damaged, encrypted, larger than is sane, or not the only file.
    """
    limit_bytes = min(MAX_BYTES, MAX_RATIO * len(document))
    try:
        with zipfile.ZipFile(io.BytesIO(document)) as archive, archive.open(_only_member(archive)) as file:
            body = file.read(limit_bytes + 1)
    except _DAMAGES as error:
        raise SourceError(f"the exchange's archive is damaged: {error}") from None
    if len(body) > limit_bytes:
        raise SourceError(
            f"the exchange's file unpacks to more than {limit_bytes} bytes from an archive of {len(document)}"
        )
    return body


def _only_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = archive.infolist()
    if len(members) != 1:
        raise SourceError(f"the exchange's archive holds {len(members)} files instead of one")
    if members[0].flag_bits & _ENCRYPTED:
        raise SourceError("the exchange's archive is encrypted")
    if members[0].compress_type not in _METHODS:
        raise SourceError(f"the exchange's archive is compressed by method {members[0].compress_type}")
    return members[0]
