"""Laws of counting repetition, and the command on a small run."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.repetition import WORDS, distinct, figures, first_words, main, repeated

few_words = st.lists(st.sampled_from("abc"), max_size=20)


def test_known_repetition_is_counted():
    words = [*"abcdabcde"]  # abcd bcda cdab dabc abcd bcde
    assert distinct(words, 1) == 5 / 9
    assert distinct(words, 2) == 5 / 8
    assert repeated(words, 4) == 2 / 6
    assert figures([words, list("fghij")]) == {
        "words": 7.0,
        "distinct_1": round(100 * (5 / 9 + 1) / 2, 2),
        "distinct_2": round(100 * (5 / 8 + 1) / 2, 2),
        "distinct_3": round(100 * (5 / 7 + 1) / 2, 2),
        "repeated_4": round(100 * (2 / 6) / 2, 2),
    }


@given(few_words, st.integers(1, 4))
def test_counts_are_those_of_the_definition(words: list[str], n: int):
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    again = sum(runs.count(run) > 1 for run in runs)
    assert distinct(words, n) == (len(set(runs)) / len(runs) if runs else 1)
    assert repeated(words, n) == (again / len(runs) if runs else 0)


def test_the_first_words_are_taken_in_lower_case_without_what_stands_between_them():
    assert first_words('"Don\'t stop!" ' + "On — " * WORDS) == ["don't", "stop", *["on"] * (WORDS - 2)]
    assert first_words("") == []


def test_settings_stand_side_by_side_beside_people(run_and_pairs, capsys):
    settings = ["", "repeat_penalty=2 temperature=0.5"]
    assert (
        main([str(run_and_pairs), "--pairs", str(run_and_pairs), "--num", "9", "--json", "--settings", *settings]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["stories"] == 2  # one a prompt
    assert list(told["figures"]) == ["people", "defaults", settings[1]]
    assert told["figures"]["people"]["words"] < WORDS
    assert len({json.dumps(row) for row in told["figures"].values()}) == 3


@pytest.mark.parametrize("settings", ["wings=2", "top_k=x", "temperature"])
def test_what_is_no_setting_is_refused(run_and_pairs, capsys, settings):
    assert main([str(run_and_pairs), "--pairs", str(run_and_pairs), "--settings", settings]) == 2
    assert f"{settings!r} is no setting" in capsys.readouterr().err
