"""The shape of the code: small modules, a file per statement, one container story."""

from __future__ import annotations

import re
from dataclasses import fields

from dataloader.config import Settings
from dataloader.storage.queries import Queries
from tests.architecture.documents import ROOT, SOURCE

LINES_LIMIT = 400


def test_no_module_is_longer_than_can_be_kept_in_mind() -> None:
    modules = [*SOURCE.rglob("*.py"), *(ROOT / "examples").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in modules}

    assert {path: length for path, length in lengths.items() if length > LINES_LIMIT} == {}


def test_every_statement_has_a_name_and_every_name_a_statement() -> None:
    files = {path.stem for path in (SOURCE / "storage" / "sql").glob("*.sql")}

    assert files == {field.name for field in fields(Queries)}


def test_every_statement_begins_by_saying_what_it_does() -> None:
    for path in (SOURCE / "storage" / "sql").glob("*.sql"):
        assert path.read_text("utf-8").startswith("-- "), path.name


def test_containers_are_given_longer_to_stop_than_the_process_takes() -> None:
    compose = (ROOT / "compose.yaml").read_text("utf-8")
    graces = [int(seconds) for seconds in re.findall(r"stop_grace_period: (\d+)s", compose)]

    assert graces
    assert min(graces) > Settings.model_fields["dl_shutdown_grace_sec"].default + 4


def test_the_image_runs_the_console_script_without_root() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()

    assert lines[-1] == 'ENTRYPOINT ["dataloader"]'
    assert "USER 10001:10001" in lines
    assert any("--require-hashes" in line and "requirements/runtime.txt" in line for line in lines)


def test_the_api_of_the_containers_is_published_to_this_machine_only() -> None:
    ports = re.findall(r'- "([^"]+:\d+)"$', (ROOT / "compose.yaml").read_text("utf-8"), re.MULTILINE)

    assert ports == ["127.0.0.1:8081:8081"]
