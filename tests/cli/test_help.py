"""Every command explains itself with examples that can be typed as they stand."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator

import pytest
from typer import Typer
from typer.testing import CliRunner

from dataloader.cli.app import build

WIDE = {"COLUMNS": "160", "TERM": "dumb", "NO_COLOR": "1"}


def commands(app: Typer, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every command."""
    for command in app.registered_commands:
        assert command.name
        yield (*prefix, command.name)
    for group in app.registered_groups:
        assert group.name
        assert group.typer_instance
        yield from commands(group.typer_instance, (*prefix, group.name))


PATHS = sorted(commands(build()))


def help_of(*path: str) -> str:
    result = CliRunner().invoke(build(), [*path, "--help"], env=WIDE)
    assert result.exit_code == 0, result.output
    return result.output


def examples_in(text: str) -> Iterator[list[str]]:
    """Yield the words behind `dataloader` of every example."""
    block = text.partition("Examples:\n")[2].partition("\n\n")[0].partition("╭")[0]
    for line in block.splitlines():
        words = shlex.split(line.partition(" > ")[0])
        if words:
            yield words[words.index("dataloader") + 1 :]


def test_all_commands_are_there() -> None:
    assert set(PATHS) >= {
        ("up",),
        ("api",),
        ("worker",),
        ("migrate",),
        ("trigger",),
        ("tasks",),
        ("workers",),
        ("doctor",),
        *(("jobs", name) for name in ("list", "show", "watch", "cancel", "retry")),
        *(("queues", name) for name in ("list", "pause", "resume")),
    }


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_has_a_sentence_and_an_example_of_the_command(path: tuple[str, ...]) -> None:
    text = help_of(*path)
    assert f"dataloader {' '.join(path)}" in text.partition("Examples:")[2]


@pytest.mark.parametrize("path", [path for path in PATHS if path != ("demo",)], ids=" ".join)
def test_every_command_can_use_the_embedded_server(path: tuple[str, ...]) -> None:
    assert "--embedded" in help_of(*path)


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_examples_can_be_parsed(path: tuple[str, ...]) -> None:
    for words in examples_in(help_of(*path)):
        result = CliRunner().invoke(build(), [*words, "--help"], env=WIDE)
        assert result.exit_code == 0, result.output


def test_the_whole_has_help_and_a_version() -> None:
    assert "dataloader up" in help_of()
    result = CliRunner().invoke(build(), ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("dataloader ")


def test_an_option_before_the_command_is_explained() -> None:
    result = CliRunner().invoke(build(), ["--embedded", "tasks"])
    assert result.exit_code == 1
    assert "--embedded goes behind the command" in inspect.cleandoc(result.output)
