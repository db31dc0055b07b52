"""The command that shows how a text is cut into tokens, how a word is built, and how merges are learned."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bpe.__main__ as command
from bpe import Tokenizer
from bpe.show import shown_tokens

ROOT = Path(__file__).resolve().parents[2]
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
    assert shown_tokens(tok, "a", colour=False).splitlines()[-1] == "1 token, 1 byte, 1.00 bytes a token"


def test_colour_shows_the_same_tokens(trained):
    painted = shown_tokens(trained, TEXT, colour=True)
    assert "\x1b[" in painted
    assert re.sub(r"\x1b\[.*?m", "", painted) == re.sub(r"[\[\]]", "", shown_tokens(trained, TEXT, colour=False))


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
        (["--explain", "\udcff", "--run", "run"], "lone surrogate (U+DCFF) at position 0"),
        (["--explain", "the"], "no run here has a tokenizer"),
        (["the", "--explain", "the"], "not allowed with"),
        (["--train", "ok.txt", "--explain", "the"], "not allowed with"),
        (["the", "--train", "ok.txt"], "not allowed with"),
        (["--train", "ok.txt", "--run", "run"], "leave out --run"),
        (["the", "--run", "run", "--merges", "3"], "--merges goes with --train"),
        (["--train", "ok.txt", "--merges", "0"], "ask for 1 or more"),
        (["--train", "ok.txt", "--merges", "x"], "invalid int value"),
        (["--train", "nowhere.txt"], "cannot read nowhere.txt: No such file"),
        (["--train", "run"], "cannot read run: "),
        (["--train", "latin-1.txt"], "cannot read latin-1.txt: at byte 3 it is not UTF-8"),
    ],
)
def test_what_the_user_can_put_right_is_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "run", 257)
    Path("ok.txt").write_text("the the")
    Path("latin-1.txt").write_bytes(b"caf\xe9 au lait")
    assert command.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bpe: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("terminal", "no_colour", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
@pytest.mark.parametrize("way", [["the", "--run", "."], ["--explain", "the", "--run", "."], ["--train", "text.txt"]])
def test_colour_is_for_terminals_whose_user_allows_it(
    way, terminal, no_colour, coloured, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    save(tmp_path, 257)
    Path("text.txt").write_text("the the")
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert command.main(way) == 0
    assert ("\x1b[" in capsys.readouterr().out) == coloured


def test_a_word_is_explained_with_the_runs_own_merges(tmp_path, capsys):
    save(tmp_path, 258)
    assert command.main(["--run", str(tmp_path), "--explain", "the"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["      2    257  [t][he]  [the]", "  ids: 257"]


def test_the_number_of_merges_shown_is_the_one_asked_for(tmp_path, monkeypatch, capsys):
    def numbers(*arguments):
        assert command.main(["--train", "text.txt", *arguments]) == 0
        return [int(line.split()[0]) for line in capsys.readouterr().out.splitlines() if " -> " in line]

    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("The keeper kept the keys of the three cheese cellars beneath the sheep fold. " * 2)
    assert numbers() == [*range(1, 21)]
    assert numbers("--merges", "3") == [1, 2, 3]


def test_a_text_to_learn_from_may_come_from_stdin_with_any_line_ends():
    def shown(text):
        command = [sys.executable, "-m", "bpe", "--train", "-"]
        return subprocess.run(command, input=text, cwd=ROOT, capture_output=True, check=True).stdout.decode()

    assert shown(b"\xef\xbb\xbfthe\r\nthe\r\n") == shown(b"the\nthe\n")
    assert "[h][e] -> [he]" in shown(b"the\nthe\n")
