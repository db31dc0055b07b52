"""Laws of counting what repeats itself in stories and what is copied, and the command that writes and counts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpe import Tokenizer
from data.documents import Document, Pair
from data.tokens import write_token_files
from model import load, originality
from model.build import LanguageModel
from model.config import ModelConfig
from model.folder import save_folder
from model.originality import COPIED, WORDS, compare, copied, distinct, figures, found_in, one_a_prompt, repeated
from model.originality import words_of as words
from model.scoring import main
from model.story import Story

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


@given(st.lists(few_words, max_size=3), few_words)
def test_a_run_is_copied_where_it_stands_in_one_training_text(texts: list[list[str]], story: list[str]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(originality, "COPIED", 3)
        shown = [f" {', '.join(text)} ".upper() for text in texts]
        runs = [f" {' '.join(story[i : i + 3])} " for i in range(len(story) - 2)]
        there = [any(run in f" {' '.join(text)} " for text in texts) for run in runs]
        assert copied(story, found_in(shown, [story])) == (sum(there) / len(there) if there else 0)


def test_words_are_in_lower_case_without_what_stands_between_them():
    assert words('"Don\'t stop!" ' + "On — " * 3) == ["don't", "stop", "on", "on", "on"]
    assert words("") == []


def test_the_first_story_of_each_prompt_is_taken():
    pairs = [Pair("a", "1"), Pair("b", "2"), Pair("a", "3"), Pair("c", "4")]
    assert [pair.story for pair in one_a_prompt(pairs, 2)] == ["1", "2"]
    assert [pair.story for pair in one_a_prompt(pairs, 9)] == ["1", "2", "4"]


NUMBERED = " ".join(f"{word}{i}" for i in range(40) for word in ("cat", "mat", "hat"))  # 120 words, all different


OTHER = " ".join(f"moles{i}" for i in range(50))


@pytest.fixture
def run(tmp_path: Path, perturbed: Callable[..., LanguageModel], config: ModelConfig, tok: Tokenizer) -> Path:
    """Two stages; pretraining read the second half of NUMBERED, finetuning the first, and both are held out from."""
    for stage in ("pretrain", "finetune"):
        save_folder(tmp_path / stage, perturbed(config).state_dict(), config, tok, stage=stage)
    told = NUMBERED.split()
    texts = {"pretrain": Document("", " ".join(told[60:])), "finetune": Pair("The mat", " ".join(told[:60]))}
    for stage, text in texts.items():
        write_token_files([("train", text), ("valid", text)], tok, tmp_path / "tokens", stage, source="")
    for split in ("train", "valid"):
        prompts = ("the hat", "the cat", "the hat") if split == "valid" else ("the mat",) * 3
        (tmp_path / f"{split}.wp_source").write_text("".join(f"[ WP ] {prompt}\n" for prompt in prompts))
        stories = (f"{split} {NUMBERED}", f"{OTHER} {split}", f"{split} {OTHER}")
        (tmp_path / f"{split}.wp_target").write_text(
            "".join(f"{story if split == 'valid' else story[::-1]}\n" for story in stories)
        )
    return tmp_path


def told_by_command(run: Path, stage: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict, str]:
    command = [str(run / stage), "--pairs", str(run), "--stories", "9", "--json", "--device", "cpu"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_the_command_counts_in_stories_on_held_out_prompts_beside_those_of_people(run, capsys):
    told, err = told_by_command(run, "finetune", capsys)
    assert err == ""
    assert told["stories"] == 2  # one a prompt
    assert list(told["originality"]) == ["people", "model"]
    model, tok = load(run, device="cpu")
    ways = {"model": lambda prompt, seed: Story(model, tok, prompt, max_tokens=2 * WORDS, seed=seed)}
    people = [Pair("the hat", f"valid {NUMBERED}"), Pair("the cat", f"{OTHER} valid")]
    pieces = " ".join(NUMBERED.split()[:60]), " ".join(NUMBERED.split()[60:])
    assert told["originality"] == compare(people, ways, pieces)


def test_what_is_copied_is_looked_for_in_what_each_stage_has_read(run, capsys):
    """Of the 109 runs of the first story those of its last 60 words stand in one text, of 60 before in the other."""
    column = f"copied_{COPIED}"
    shares = [
        told_by_command(run, stage, capsys)[0]["originality"]["people"][column] for stage in ("pretrain", "finetune")
    ]
    assert shares == [round(100 * times * 48 / 109 / 2, 2) for times in (1, 2)]


def test_without_the_tokens_that_were_read_it_is_said_and_the_rest_counted(run, capsys):
    (run / "tokens" / "pretrain-train.bin").unlink()
    told, err = told_by_command(run, "finetune", capsys)
    assert "what stories copy is not counted" in err
    assert "pretrain-train.bin" in err
    assert list(told["originality"]["model"])[-1] == "repeated_4"


@pytest.mark.parametrize(
    "arguments", [["--texts", "{run}/train.wp_source", "--stories", "2"], ["--pairs", "{run}", "--stories", "0"]]
)
def test_stories_need_prompts_and_a_number(run, capsys, arguments):
    assert main([str(run), *(argument.format(run=run) for argument in arguments)]) == 2
    assert "needs --pairs, for prompts, and one story or more" in capsys.readouterr().err
