"""What an unload is to write to: a directory of this machine, or a folder of a bucket."""

from __future__ import annotations

import re
from glob import has_magic
from uuid import UUID

from dataloader.config import Settings
from dataloader.connectors.files.bucket import open_store
from dataloader.connectors.files.reach import check_bucket
from dataloader.connectors.unloading.bucket import BucketShelf
from dataloader.connectors.unloading.place import check_target
from dataloader.connectors.unloading.publishing import Shelf
from dataloader.exceptions import PermanentError

AnyShelf = Shelf | BucketShelf

_FOLDER = re.compile(r"s3a?://[^/]+(/[^/]+)*/?")


def open_shelf(target: str, settings: Settings, job_id: UUID) -> AnyShelf:
    """Return what one job writes to; it is not looked for, and need not exist.

    Args:
        target: As it was asked for: a path, or an address of a bucket.
        settings: They say where may be written.
        job_id: Which job.

    Raises:
        PermanentError: It lies outside of that, or can be no target.
    """
    if "://" not in target:
        return Shelf(check_target(target, settings.dl_target_roots), job_id)
    check_bucket(f"{target.rstrip('/')}/", settings.dl_target_buckets, setting="DL_TARGET_BUCKETS", may="be written to")
    if not _FOLDER.fullmatch(target) or has_magic(target):
        raise PermanentError(
            f"{target} is no place to write to; name a directory, or a folder of a bucket like s3://exports/trades/"
        )
    scheme, _, place = target.rstrip("/").partition("://")
    return BucketShelf(open_store(scheme, target), f"s3://{place}", job_id)
