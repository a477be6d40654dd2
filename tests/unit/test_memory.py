"""Where the tests' own server keeps its data."""

from __future__ import annotations

import os
from pathlib import Path

from tests.memory import make_folder


def test_a_folder_is_made_where_there_is_room(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, room_bytes=1)
    assert folder is not None
    assert folder.is_dir()
    assert folder.parent == tmp_path


def test_without_room_or_place_there_is_none(tmp_path: Path) -> None:
    assert make_folder(tmp_path, room_bytes=1 << 60) is None
    assert make_folder(tmp_path / "missing", room_bytes=1) is None


def test_what_a_dead_run_left_goes_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    dead, living, other = (
        tmp_path / name for name in ("dataloader-tests-4194305-x", f"dataloader-tests-{os.getpid()}-x", "elsewhere")
    )
    for folder in (dead, living, other):
        (folder / "postgres").mkdir(parents=True)
    made = make_folder(tmp_path, room_bytes=1)
    assert sorted(tmp_path.iterdir()) == sorted(path for path in (living, other, made) if path is not None)
