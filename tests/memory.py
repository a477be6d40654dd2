"""A folder in memory for the data of a run's server: a database is copied there in a tenth of the time."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PARENT = Path("/dev/shm")  # noqa: S108 - each run makes a folder of its own
ROOM_BYTES = 4 << 30
_PREFIX = "dataloader-tests-"


def make_folder(parent: Path = PARENT, *, room_bytes: int = ROOM_BYTES) -> Path | None:
    """Return a new folder in memory, None where there is no such place or not enough room; what dead runs left goes."""
    if not parent.is_dir():
        return None
    for left in parent.glob(f"{_PREFIX}*"):
        if not _is_alive(int(left.name.removeprefix(_PREFIX).split("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    if min(shutil.disk_usage(parent).free, _available_bytes()) < room_bytes:
        return None
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))


def _available_bytes() -> int:
    """Return how much memory may be taken: what the machine has free, and half of what a container allows."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    free = int(found[1]) * 1024 if found else 0
    with suppress(OSError, ValueError):
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")) // 2)
    return free


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
