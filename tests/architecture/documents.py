"""The documents as tests read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "dataloader"
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")


def documents() -> list[Path]:
    """Return every document that users and maintainers read."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


def blocks(document: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return [match[3] for match in _FENCE.finditer(document.read_text("utf-8")) if match[2] == language]


def prose(document: Path) -> str:
    """Return a document without its fenced blocks and code."""
    return _CODE.sub("", _FENCE.sub("", document.read_text("utf-8")))


def headings(document: Path) -> set[str]:
    """Return the anchors that a document's headings get."""
    lines = _FENCE.sub("", document.read_text("utf-8")).splitlines()
    return {_anchor(line.lstrip("#").strip()) for line in lines if re.match(r"#{1,6} ", line)}


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def table_rows(document: Path) -> Iterator[list[str]]:
    """Yield the rows of all tables as cells."""
    for line in document.read_text("utf-8").splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip().strip("|").split(" | ")]
