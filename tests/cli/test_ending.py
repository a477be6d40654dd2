"""How commands end."""

from __future__ import annotations

import pytest
from typer import Exit

from dataloader.cli.ending import ComponentDiedError, sentence, sentences
from dataloader.exceptions import DataloaderError, InvalidArgsError, SettingsError, UnknownTaskError

Screen = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("no"), 2),
        (DataloaderError("no"), 1),
        (ComponentDiedError(), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_a_code(error: BaseException, code: int) -> None:
    with pytest.raises(Exit) as caught, sentences():
        raise error
    assert caught.value.exit_code == code


def test_what_nobody_foresaw_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError), sentences():
        raise RuntimeError("bug")


def test_a_sentence_is_one_line_that_is_no_markup(capsys: Screen) -> None:
    with pytest.raises(Exit), sentences():
        raise SettingsError("[bold]x[/bold] is\n  wrong")
    assert capsys.readouterr().err == "error: [bold]x[/bold] is wrong\n"


def test_reasons_and_known_names_follow_the_message() -> None:
    errors = [{"field": "args.n", "reason": "must be a number"}, "odd"]
    assert sentence(InvalidArgsError("No", errors=errors)) == "No; args.n: must be a number"
    assert sentence(UnknownTaskError("No", known=["a", "b"])) == "No; known are a, b"
    assert sentence(UnknownTaskError("No", known=[], errors=None)) == "No"
