"""What lies at the target of an unload."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import asyncpg

from tests.loading.scene import Scene

WORKERS = '[{"queue": "unload.table", "concurrency": 2}, {"queue": "load.file", "concurrency": 1}]'
ROWS = 100


def out(scene: Scene) -> str:
    """Return the directory that unloads go to."""
    return str(scene.folder / "out")


def is_there(scene: Scene) -> bool:
    """Return whether the target has been created."""
    return Path(out(scene)).exists()


def listed(scene: Scene) -> list[str]:
    """Return all names at the target."""
    return sorted(path.name for path in Path(out(scene)).iterdir())


def content(scene: Scene, name: str) -> bytes:
    """Return a file of the target."""
    return Path(out(scene), name).read_bytes()


def one(scene: Scene, pattern: str) -> Path:
    """Return the only file of the target that fits a pattern."""
    (path,) = Path(out(scene)).glob(pattern)
    return path


def inode(scene: Scene, name: str) -> int:
    """Return which file a name of the target is."""
    return Path(out(scene), name).stat().st_ino


def hidden(job: asyncpg.Record) -> str:
    """Return the name of a job's folder."""
    return f".unload-{job['job_id']}"


def stored(scene: Scene, job: asyncpg.Record) -> list[int]:
    """Return which files a job has stored, in the order of the parts."""
    return [path.stat().st_ino for path in sorted(Path(out(scene), hidden(job)).iterdir())]


def folder(scene: Scene, name: str) -> Path:
    """Create a folder."""
    path = scene.folder / name
    path.mkdir()
    return path


def move(scene: Scene, name: str, to: str) -> None:
    """Give a file of the target another name."""
    Path(out(scene), name).rename(Path(out(scene), to))


def manifest(scene: Scene) -> dict[str, Any]:
    """Return the manifest, once all that it says of its parts has been found true."""
    found: dict[str, Any] = json.loads(content(scene, "manifest.json"))
    for part in found["parts"]:
        data = content(scene, part["name"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part["bytes"], part["sha256"])
    assert found["rows"] == sum(part["rows"] for part in found["parts"])
    assert found["bytes"] == sum(part["bytes"] for part in found["parts"])
    return found


def text(scene: Scene) -> str:
    """Return the rows of all parts, without headers."""
    parts = [content(scene, part["name"]).decode() for part in manifest(scene)["parts"]]
    return "".join(part.partition("\n")[2] for part in parts)
