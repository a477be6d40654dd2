"""Parts are put in place all at once: the manifest comes last, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from dataloader.connectors.unloading import Csv, Part
from dataloader.connectors.unloading.part import PartFile
from dataloader.connectors.unloading.publishing import MANIFEST, Shelf
from dataloader.exceptions import PermanentError


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """A target with the folder of a job."""
    shelf = Shelf(tmp_path / "out", uuid4())
    shelf.create()
    return shelf


def written(shelf: Shelf, number: int) -> Part:
    """Write a part into the folder."""
    name = f"part-{number:05}.csv"
    file = PartFile(shelf.place(name, "1"), Csv().packer({}))
    file.write(b"id\n%d\n" % number)
    return file.finish(1)


def manifest_of(shelf: Shelf, parts: list[Part]) -> dict[str, object]:
    """Return what a reader needs to know."""
    return {"job_id": str(shelf.job_id), "parts": [{"name": part.name} for part in parts]}


def test_a_manifest_is_not_there_while_a_part_is_not_in_place(shelf: Shelf) -> None:
    parts = [written(shelf, number) for number in (1, 2)]
    obstacle = shelf.target / parts[1].name
    obstacle.mkdir()

    with pytest.raises(PermanentError, match="cannot be written"):
        shelf.publish(parts, manifest_of(shelf, parts))

    assert not (shelf.target / MANIFEST).exists()
    obstacle.rmdir()
    shelf.publish(parts, manifest_of(shelf, parts))
    assert json.loads((shelf.target / MANIFEST).read_text()) == manifest_of(shelf, parts)
    assert [(shelf.target / part.name).read_bytes() for part in parts] == [b"id\n1\n", b"id\n2\n"]


def test_the_unload_before_is_whole_until_the_new_manifest_is_there(shelf: Shelf) -> None:
    old = [written(shelf, 1)]
    shelf.publish(old, manifest_of(shelf, old))
    later = Shelf(shelf.target, uuid4())
    later.create()
    parts = [written(later, number) for number in (2, 3)]
    (later.target / parts[1].name).mkdir()

    with pytest.raises(PermanentError, match="cannot be written"):
        later.publish(parts, manifest_of(later, parts))

    assert json.loads((shelf.target / MANIFEST).read_text()) == manifest_of(shelf, old)
    assert (shelf.target / old[0].name).read_bytes() == b"id\n1\n"


def test_a_part_that_is_gone_is_noticed_before_anything_is_put_in_place(shelf: Shelf) -> None:
    parts = [written(shelf, number) for number in (1, 2)]
    (shelf.folder / parts[1].stored).unlink()

    with pytest.raises(PermanentError, match=r"part-00002\.csv of an earlier attempt is gone"):
        shelf.publish(parts, manifest_of(shelf, parts))

    assert [path.name for path in shelf.target.iterdir()] == [shelf.folder.name]
