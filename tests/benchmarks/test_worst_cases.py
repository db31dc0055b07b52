"""Text without words: of the kind and the size that is said, and measured only where the ids are right."""

import json

import pytest

from benchmarks import worst_cases
from benchmarks.bpe_tasks import Disagreement
from benchmarks.worst_cases import KINDS, Figures, Measured, main, measure, text_of
from bpe.cuts import cuts_of
from bpe.split import PATTERNS


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_has_the_size_that_is_asked_for_and_is_the_same_each_time(kind: str) -> None:
    text = text_of(kind, 30_000)
    assert text == text_of(kind, 30_000)
    size = len(text) if kind == "random bytes" else len(text.encode())
    assert 30_000 - 3 <= size <= 30_000


def test_text_without_blanks_has_no_place_to_be_cut_and_random_bytes_have_all_bytes() -> None:
    cuts = cuts_of(PATTERNS["qwen2"])
    assert cuts is not None
    for kind in ("one letter", "no blank"):
        assert len(cuts.places(text_of(kind, 30_000).encode())) == 2  # the beginning and the end
    assert set(text_of("random bytes", 30_000)) == {chr(byte) for byte in range(256)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_learned_from_and_encoded_as_tiktoken_does(kind: str) -> None:
    measured = measure(kind, 30_000)
    assert 0 < measured.tokens < len(text_of(kind, 30_000).encode())  # some merges were learned, and are used


def test_ids_that_are_not_tiktokens_are_a_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def encode_ordinary(self, text: str) -> list[int]:
            return list(text.encode())

    monkeypatch.setattr(worst_cases, "as_tiktoken", lambda tok: Other())
    with pytest.raises(Disagreement, match="one letter: ids are not tiktoken's"):
        measure("one letter", 3_000)


def test_a_ratio_is_the_time_of_the_large_text_to_that_of_the_small_one() -> None:
    small, large = (Measured(train=1.0 * size, encode=3.0 * size, tokens=9, peak_mb=99) for size in (1, 7))
    assert Figures(text="", small=small, large=large).ratios == (7, 7)


@pytest.mark.parametrize("arguments", [["--megabytes", number] for number in ("0", "-1", "nan", "inf", "1e-9")])
def test_a_size_that_tells_nothing_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("benchmarks.worst_cases: --megabytes") and "give a number from 0.01 on" in err


@pytest.mark.slow
def test_every_kind_is_a_line_and_the_least_of_the_repeats_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worst_cases, "KINDS", ("emoji",))
    assert main(["--megabytes", "0.05", "--repeats", "2", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    figures = json.loads(line)
    assert figures["text"] == "emoji"
    assert 0 < figures["small"]["tokens"] < figures["large"]["tokens"]
    assert main(["--megabytes", "0.05", "--repeats", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("emoji ")
