"""The command that shows how a text is cut into tokens."""

import os
import sys

import pytest

import bpe.__main__ as command
from bpe import Tokenizer
from bpe.show import shown_tokens

TEXT = "the then é\t👩\nthe\n\nend"


def test_the_tokens_are_readable_without_colour():
    tok = Tokenizer.train(["the then the"], vocab_size=258)
    assert shown_tokens(tok, "the é\nthen", colour=False).splitlines() == [
        "[the][ ][<c3>][<a9>][⏎]",
        "  257 32 195 169 10",
        "[the][n]",
        "  257 110",
        "7 tokens, 11 bytes, 1.57 bytes a token",
    ]
    assert shown_tokens(tok, "", colour=False) == "0 tokens, 0 bytes"


def test_colour_shows_the_same_tokens(trained):
    painted = shown_tokens(trained, TEXT, colour=True)
    assert "\x1b[" in painted
    assert [line for line in painted.splitlines() if "[" not in line] == shown_tokens(
        trained, TEXT, colour=False
    ).splitlines()[-1:]


def test_a_text_cannot_command_the_terminal(trained):
    assert "\x1b" not in shown_tokens(trained, "\x1b[2J\r\x07", colour=False)


def save(folder, size):
    Tokenizer.train(["the the the"], vocab_size=size).save(folder / "tokenizer.json")


def test_the_run_is_the_one_named_else_story_else_the_newest(tmp_path, monkeypatch, capsys):
    def tokens(*arguments):
        assert command.main(["the", *arguments]) == 0
        return capsys.readouterr().out.splitlines()[0]

    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    save(runs / "new", 258)
    save(runs / "old", 257)
    os.utime(runs / "old" / "tokenizer.json", (0, 0))
    (runs / "empty").mkdir()
    assert tokens() == "[the]"
    assert tokens("--run", "runs/old") == "[t][he]"
    save(runs / "story", 256)
    os.utime(runs / "story" / "tokenizer.json", (0, 0))
    assert tokens() == "[t][h][e]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["the"], "no run here has a tokenizer; make one with `make story`"),
        (["the", "--run", "nowhere"], "cannot read the tokenizer nowhere"),
        (["\udcff", "--run", "run"], "lone surrogate"),
        ([], "--help lists the options"),
        (["the", "--ru", "run"], "--help lists the options"),
    ],
)
def test_what_the_user_can_put_right_is_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "run", 257)
    assert command.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bpe: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("terminal", "no_colour", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_colour_is_for_terminals_whose_user_allows_it(terminal, no_colour, coloured, tmp_path, monkeypatch, capsys):
    save(tmp_path, 257)
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert command.main(["the", "--run", str(tmp_path)]) == 0
    assert ("\x1b[" in capsys.readouterr().out) == coloured
