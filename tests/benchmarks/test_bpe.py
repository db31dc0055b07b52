"""Our tokenizer beside others: only what the text is enough for is measured, and what fails is one line."""

import json
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import bpe, evolution, training, worst_cases
from benchmarks.bpe import main


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A text that cannot fill the smallest vocabulary that is trained."""
    (tmp_path / "text.txt").write_text("the ship sank and the man swam to the shore. " * 99, encoding="utf-8")
    return tmp_path


def test_what_the_text_is_not_enough_for_is_left_out(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--texts", str(tiny), "--tasks", "train", "--json"]) == 0
    assert capsys.readouterr() == ("", "")


def test_what_fails_is_one_line(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bpe, "_fills", lambda *_: True)
    assert main(["--texts", str(tiny), "--tasks", "train", "--repeats", "1", "--json"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("benchmarks.bpe: ours cannot train this text: bpe.errors.BPEError: the text supports")


def test_what_the_text_is_enough_for_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["".join(letters) for letters in product("bdfgklmnprst", "aeiou", "bdfgklmnprst", "aeiou")]
    (tmp_path / "text.txt").write_text(" ".join(words * 3), encoding="utf-8")
    assert main(["--texts", str(tmp_path), "--tasks", "train", "short", "--repeats", "1", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["what"], row["peer"]) for row in rows] == [
        ("train 4,096, 0.054 MB, 1 worker", "rustbpe"),
        ("short prompt of 20 words, 0.054 MB, 1 worker", "tiktoken"),
    ]
    assert all(row["ours"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (bpe, "--repeats"),
        (worst_cases, "--repeats"),
        (evolution, "--seeds"),
        (training, "--seeds"),
    ],
)
@pytest.mark.parametrize("number", ["0", "-1"])
def test_nothing_to_measure_is_one_line(
    command: ModuleType, option: str, number: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [] if command is worst_cases else ["--texts", str(tiny)]
    assert command.main([*texts, option, number]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"argument {option}: {number} is not 1 or more" in err
