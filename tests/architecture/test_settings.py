"""Every setting is in the documents and in `.env.example`, with the default that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from dataloader.config import Settings, load_settings
from tests.architecture.documents import ROOT, table_rows

CONFIGURATION = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / ".env.example"
FIELDS = sorted(Settings.model_fields)


def _default(name: str) -> str | None:
    """Return a default as it is written in an environment, None when the setting is not set."""
    match Settings.model_fields[name].default:
        case None:
            return None
        case bool() as flag:
            return str(flag).lower()
        case SecretStr() as secret:
            return secret.get_secret_value()
        case tuple():
            return ""
        case other:
            return str(other)


def _documented() -> dict[str, str]:
    rows = (row for row in table_rows(CONFIGURATION) if len(row) == 3 and row[0].startswith("`"))
    return {row[0].strip("`").lower(): row[1] for row in rows}


def _exemplified() -> dict[str, str]:
    return {
        match[1].lower(): match[2] for match in re.finditer(r"^# ([A-Z_]+)=(.*)$", EXAMPLE.read_text("utf-8"), re.M)
    }


def test_the_documents_know_the_settings_of_the_code_and_no_others() -> None:
    assert sorted(_documented()) == FIELDS
    assert sorted(_exemplified()) == FIELDS


@pytest.mark.parametrize("name", FIELDS)
def test_a_default_is_the_same_everywhere(name: str) -> None:
    default = _default(name)
    shown = "not set" if default is None else f"`{default}`" if default else "empty"

    assert _documented()[name] == shown
    assert _exemplified()[name] == (default or "")


def test_the_example_can_be_used_as_it_is(tmp_path: Path) -> None:
    active = re.sub(r"^# ([A-Z_]+=)", r"\1", EXAMPLE.read_text("utf-8"), flags=re.M)
    (tmp_path / ".env").write_text(active, "utf-8")

    assert load_settings(_env_file=tmp_path / ".env") == load_settings(_env_file=None)
