"""The mutants fit the code as it is; whether they are caught, `make mutants` says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.mutants.mutant import Edit, Mutant, StaleMutantError
from tests.mutants.table import MUTANTS
from tests.mutants.workshop import ROOT


@pytest.mark.parametrize("mutant", [pytest.param(mutant, id=mutant.name) for mutant in MUTANTS])
def test_every_mutant_changes_the_code_as_it_is(mutant: Mutant, tmp_path: Path) -> None:
    for edit in mutant.edits:
        (tmp_path / edit.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / edit.file, tmp_path / edit.file)

    mutant.apply(tmp_path)

    assert all(edit.old != edit.new for edit in mutant.edits)
    for edit in mutant.edits:
        if edit.file.endswith(".py"):
            compile((tmp_path / edit.file).read_text("utf-8"), edit.file, "exec")


def test_every_test_that_must_find_one_exists() -> None:
    selected = {part for mutant in MUTANTS for part in mutant.tests if part.startswith("tests/")}

    for path, _, name in (part.partition("::") for part in selected):
        assert (ROOT / path).exists(), path
        assert re.search(rf"(class|def) {name}\b", (ROOT / path).read_text("utf-8")), name


def test_every_mutant_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 15


@pytest.mark.parametrize("text", ["", "twice twice"])
def test_a_mutant_that_does_not_fit_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text, "utf-8")

    with pytest.raises(StaleMutantError, match="instead of once"):
        Edit("file", "twice", "once").apply(tmp_path)
