"""What the documents show exists: links, states, commands, endpoints, metrics, Python that compiles."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from typer import Typer
from typer.main import get_command

from dataloader.api.app import create_app
from dataloader.cli.app import build
from dataloader.domain.jobs import TRANSITIONS, JobStatus
from dataloader.telemetry.fleet import Fleet, QueueGauge
from dataloader.telemetry.metrics import Metrics
from tests.architecture.documents import ROOT, blocks, documents, headings, prose, table_rows

DOCUMENTS = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in documents()]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"(?<![\w./-])dataloader((?: [a-z]+)*)")
_MOVE = re.compile(r"^ *(\w+) --> (\w+)$", re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in _LINK.findall(prose(document)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached, ahead = set[Path](), {ROOT / "README.md"}
    while ahead:
        document = ahead.pop()
        reached.add(document)
        links = ((document.parent / link.partition("#")[0]).resolve() for link in _LINK.findall(prose(document)))
        ahead |= {link for link in links if link.suffix == ".md" and link.exists()} - reached

    assert set(documents()) <= reached


def test_the_diagram_of_states_has_the_moves_of_the_code() -> None:
    [diagram] = (text for text in blocks(ROOT / "docs" / "concepts.md", "mermaid") if text.startswith("stateDiagram"))

    assert set(_MOVE.findall(diagram)) == {
        (str(before), str(after)) for before in TRANSITIONS for after in TRANSITIONS[before]
    }


def test_the_table_of_states_has_the_states_of_the_code() -> None:
    names = [row[0].strip("`") for row in table_rows(ROOT / "docs" / "concepts.md") if len(row) == 2]

    assert [name for name in names if name in set(JobStatus)] == list(JobStatus)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_in_documents_compiles(document: Path) -> None:
    for source in blocks(document, "python"):
        assert ast.parse(source).body


def test_the_readme_shows_a_pipeline_of_about_ten_lines() -> None:
    [source] = blocks(ROOT / "README.md", "python")

    assert len([line for line in source.splitlines() if line.strip()]) <= 11


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_pipeline_in_documents_creates_the_tables_it_writes(document: Path) -> None:
    for source in blocks(document, "python"):
        written = set(re.findall(r"tx\.(?:copy_rows|upsert)\(\s*\"(\w+)\"", source))
        created = set(re.findall(r"tx\.ensure_table\(\s*\"(\w+)\"", source))
        assert written <= created


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_documents_exists(document: Path) -> None:
    known = _commands(build())
    shell = "\n".join(blocks(document, "sh")) + "\n".join(
        re.findall(r"`(dataloader[^`\n]*)`", document.read_text("utf-8"))
    )
    for words in _COMMAND.findall(shell):
        assert _is_known(words.split(), known), f"dataloader{words}"


def test_the_documents_name_every_command() -> None:
    text = "".join(path.read_text("utf-8") for path in documents())

    assert [name for name in _commands(build()) if name and f"dataloader {name}" not in text] == []


def _commands(app: Typer) -> set[str]:
    root = get_command(app)
    names = {""}
    for name, command in getattr(root, "commands", {}).items():
        names |= {f"{name} {inner}" for inner in getattr(command, "commands", {})} or {name}
    return names


def _is_known(words: list[str], known: set[str]) -> bool:
    """Return whether words begin with a command; what follows it are its arguments."""
    return not words or " ".join(words[:1]) in known or " ".join(words[:2]) in known


def test_every_endpoint_is_documented_and_every_documented_one_exists() -> None:
    document = (ROOT / "docs" / "http-api.md").read_text("utf-8")
    written = {
        (method, path) for method, path in re.findall(r"`(GET|POST) (/[^`?]*)`", document.replace("|resume", ""))
    }
    existing = {
        (method.upper(), path) for path, methods in create_app().openapi()["paths"].items() for method in methods
    }

    assert written == existing


def test_every_metric_is_documented() -> None:
    queue = QueueGauge("q", {"ready": 1}, oldest_due_s=None, paused=False, slots=1)
    text = Metrics().render(Fleet((queue,), workers=1, expired_leases=0)).decode()
    exported = set(re.findall(r"^# TYPE (dataloader_\w+)", text, re.MULTILINE))
    rows = table_rows(ROOT / "docs" / "operating.md")

    assert {row[0].strip("`") for row in rows if row[0].startswith("`dataloader_")} == exported


@pytest.mark.parametrize("document", DOCUMENTS)
def test_code_in_documents_fits_a_page(document: Path) -> None:
    code = [block for language in ("python", "sh", "sql", "text") for block in blocks(document, language)]

    assert [line for block in code for line in block.splitlines() if len(line) > 112] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_lines_are_short_enough_to_read(document: Path) -> None:
    text = re.sub(r"^\|.*$|^ *```.*?^ *```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)

    assert [line for line in text.splitlines() if len(line) > 132] == []
