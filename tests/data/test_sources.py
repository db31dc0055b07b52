"""Laws of the sources: what was asked for is read, a split that is given is kept, and the sample is sound."""

import hashlib
import tomllib
from collections import Counter
from itertools import combinations
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from data import documents, gutenberg_books, sources, tiny_stories, writing_prompts
from data.clean import normalise
from data.download import Unreachable
from data.errors import DataError
from data.sources import SAMPLE, pair_source, sample_pairs, text_source
from data.splits import COPIED, shingles

TALE = "The old keeper climbed the stairs and lit the lamp, for a ship was near and the night was as black as tar. " * 3


def texts_in(folder: Path, **contents: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.txt").write_text(content, encoding="utf-8")
    return folder


def pairs_in(folder: Path, splits: dict[str, range]) -> Path:
    folder.mkdir(exist_ok=True)
    for split, numbers in splits.items():
        (folder / f"{split}.wp_source").write_text("".join(f"[ WP ] Prompt {n}\n" for n in numbers), encoding="utf-8")
        stories = (" ".join(f"{word}{n}" for word in TALE.split()) + "\n" for n in numbers)
        (folder / f"{split}.wp_target").write_text("".join(stories), encoding="utf-8")
    return folder


def test_a_split_that_the_files_name_is_kept_and_test_files_are_left_alone(tmp_path: Path) -> None:
    folder = texts_in(tmp_path, train="a", train_more="b", other="c", valid="d", test="e", **{"my-Validation": "f"})
    marked = {document.text: split for split, document in text_source([folder], None, tmp_path).examples()}
    assert marked == {"a": "train", "b": "train", "c": "train", "d": "valid", "f": "valid"}


def test_a_name_that_only_looks_like_a_split_is_a_book(tmp_path: Path) -> None:
    folder = texts_in(tmp_path, **{"The Night Train": "a b c d", "A test of courage": "e f g h", "validity": "i j k l"})
    source = text_source([folder], None, tmp_path)
    assert Counter(split for split, _ in source.examples()) == {"train": 3, "valid": 3}


def test_examples_come_the_same_each_time(tmp_path: Path) -> None:
    texts = text_source([texts_in(tmp_path / "t", one="a b c d", two="e f g h")], None, tmp_path)
    pairs = pair_source(pairs_in(tmp_path / "p", {"train": range(30)}), None, tmp_path)
    assert list(texts.examples()) == list(texts.examples()) != []
    assert list(pairs.examples()) == list(pairs.examples()) != []


def test_a_progress_bar_says_what_examples_are_read_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bar = MagicMock()
    monkeypatch.setattr(documents, "progress_bar", bar)
    both, one = {"train": range(9), "valid": range(10, 13)}, {"train": range(9)}
    for read_times, source in [
        (1, text_source([texts_in(tmp_path / "a", one="a b c d")], None, tmp_path)),
        (2, text_source([texts_in(tmp_path / "b", train="a", valid="b")], None, tmp_path)),
        (2, pair_source(pairs_in(tmp_path / "c", both), None, tmp_path)),
        (3, pair_source(pairs_in(tmp_path / "d", one), None, tmp_path)),
    ]:
        bar.reset_mock()
        list(source.examples("encoding"))
        assert [call.kwargs["description"] for call in bar.call_args_list] == ["encoding"] * read_times


def test_the_fingerprint_changes_with_a_name_and_with_a_byte_and_with_nothing_else(tmp_path: Path) -> None:
    def fingerprint(folder: str, **contents: str) -> str:
        return text_source([texts_in(tmp_path / folder, **contents)], None, tmp_path).fingerprint()

    first = fingerprint("a", one="1", two="2")
    assert first == fingerprint("b", one="1", two="2")
    assert len({first, fingerprint("c", one="1", two="3"), fingerprint("d", one="1", three="2")}) == 3
    assert len(first) == 64


def test_other_rules_are_another_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = text_source([texts_in(tmp_path, one="1")], None, tmp_path)
    before = source.fingerprint()
    monkeypatch.setattr(sources, "RULES", sources.RULES + 1)
    assert source.fingerprint() != before


def test_rules_that_make_other_examples_have_another_number(tmp_path: Path) -> None:
    """Without it, token files made by the old rules would pass for files made by the new ones."""
    styles = [path for path in (Path(__file__).parent / "gutenberg").iterdir() if path.suffix == ".txt"]
    spelled = texts_in(
        tmp_path / "texts", spelled="\ufeffHe—she – 10–20…\r\n\r\n\r\n\t“No,”\u200b ‘n’ -- --- end. \n" * 9
    )
    folder = pairs_in(tmp_path / "pairs", {"train": range(30)})
    marked = (
        "[ WP ] Wait , please .\n",
        f"EDIT : spelling <newline> `` Do n't , '' he said . <newline> *One* ' s {TALE}\n",
    )
    for name, line in zip(("train.wp_source", "train.wp_target"), marked, strict=True):
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(line * 2)
    texts = [(split, document.text) for split, document in text_source([*styles, spelled], None, tmp_path).examples()]
    pairs = list(pair_source(folder, None, tmp_path).examples())
    assert len(texts) > len(styles) and len(pairs) > 30
    digest = hashlib.sha256(repr((sorted(texts), pairs)).encode()).hexdigest()[:16]
    assert (sources.RULES, digest) == (3, "82b2bb9abd54cec1"), (
        "other rules: raise data.sources.RULES and note both here"
    )


def test_pairs_with_a_split_keep_it_less_the_leaks(tmp_path: Path) -> None:
    folder = pairs_in(tmp_path, {"train": range(1, 30), "valid": range(25, 35), "test": range(40, 50)})
    marked = [(split, pair.prompt) for split, pair in pair_source(folder, None, tmp_path).examples()]
    assert [prompt for split, prompt in marked if split == "valid"] == [f"Prompt {n}" for n in range(25, 35)]
    assert [prompt for split, prompt in marked if split == "train"] == [f"Prompt {n}" for n in range(1, 25)]


def test_pairs_without_a_split_get_one(tmp_path: Path) -> None:
    source = pair_source(pairs_in(tmp_path, {"train": range(30)}), None, tmp_path)
    counts = Counter(split for split, _ in source.examples())
    assert counts["valid"] >= 1 and counts.total() == 30


def test_nothing_asked_for_is_gutenberg_and_writing_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def books(folder: Path) -> list[Path]:
        asked.append(folder)
        return [texts_in(tmp_path / "books", moby="a b c d") / "moby.txt"]

    def prompts(folder: Path) -> Path:
        asked.append(folder)
        return pairs_in(tmp_path / "pairs", {"train": range(30)})

    monkeypatch.setattr(gutenberg_books, "download", books)
    monkeypatch.setattr(writing_prompts, "download", prompts)
    assert text_source(None, None, tmp_path / "d").name == "gutenberg"
    assert pair_source(None, None, tmp_path / "d").name == "writingprompts"
    assert asked == [tmp_path / "d" / "gutenberg", tmp_path / "d" / "writingprompts"]


def test_tiny_stories_keeps_its_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = texts_in(tmp_path, one="a\n<|endoftext|>\nb", two="b\n<|endoftext|>\nc")
    monkeypatch.setattr(tiny_stories, "download", lambda _: {"train": folder / "one.txt", "valid": folder / "two.txt"})
    marked = [(split, document.text) for split, document in text_source(None, "tinystories", tmp_path).examples()]
    assert marked == [("valid", "b"), ("valid", "c"), ("train", "a")]


@pytest.mark.parametrize("dataset", ["gutenberg", "tinystories", "writingprompts"])
def test_without_a_network_the_error_names_both_ways_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str
) -> None:
    def offline(_: Path) -> None:
        raise Unreachable("cannot fetch it, no server answers")

    for module in (gutenberg_books, tiny_stories, writing_prompts):
        monkeypatch.setattr(module, "download", offline)
    ask, option = (pair_source, "--pairs PATH") if dataset == "writingprompts" else (text_source, "--texts PATH")
    with pytest.raises(DataError, match="no server answers") as caught:
        ask(None, dataset, tmp_path)
    assert option in str(caught.value) and "--dataset sample" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_data_set_and_one_of_the_other_kind_are_errors_that_name_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'shakespeare'.*gutenberg, tinystories, sample"):
        text_source(None, "shakespeare", tmp_path)
    with pytest.raises(DataError, match=r"writingprompts holds no texts.*gutenberg, tinystories, sample"):
        text_source(None, "writingprompts", tmp_path)
    with pytest.raises(DataError, match=r"tinystories holds no pairs.*writingprompts, sample"):
        pair_source(None, "tinystories", tmp_path)


def test_paths_and_a_data_set_together_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--texts and --dataset"):
        text_source([tmp_path], "sample", tmp_path)
    with pytest.raises(DataError, match="--pairs and --dataset"):
        pair_source(tmp_path, "sample", tmp_path)


def test_paths_that_hold_nothing_are_an_error_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text files"):
        text_source([tmp_path], None, tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        pair_source(tmp_path / "nowhere", None, tmp_path)


def test_the_sample_gives_its_stories_as_texts_and_its_records_as_pairs_with_one_split(tmp_path: Path) -> None:
    texts = [(split, document.text) for split, document in text_source(None, "sample", tmp_path).examples()]
    pairs = [(split, pair.story) for split, pair in pair_source(None, "sample", tmp_path).examples()]
    assert texts == pairs
    assert {split for split, _ in pairs} == {"train", "valid"}


def test_the_sample_is_large_enough_and_no_two_of_its_stories_are_alike() -> None:
    pairs = list(sample_pairs())
    assert len(pairs) >= 60
    assert sum(file.stat().st_size for file in SAMPLE.glob("*.txt")) >= 100_000
    assert len({pair.prompt.casefold() for pair in pairs}) == len(pairs)
    hashes = [set(shingles(pair.story).tolist()) for pair in pairs]
    assert not [
        (one & two) for one, two in combinations(hashes, 2) if len(one & two) >= COPIED * min(len(one), len(two))
    ]


def test_the_sample_is_installed_with_its_package() -> None:
    pyproject = tomllib.loads((SAMPLE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = pyproject["tool"]["setuptools"]["package-data"]["data"]
    installed = {file for pattern in patterns for file in SAMPLE.parent.glob(pattern)}
    assert installed == {file for file in SAMPLE.rglob("*") if file.is_file()} != set()


def test_the_sample_is_written_in_the_convention() -> None:
    for file in SAMPLE.glob("*.txt"):
        text = file.read_text(encoding="utf-8")
        assert normalise(text) == text.strip("\n"), file.name
    for pair in sample_pairs():
        assert pair.prompt == pair.prompt.strip() and len(pair.prompt.split()) >= 3
        assert len(pair.story.split()) >= writing_prompts.MIN_WORDS
        assert "PROMPT:" not in pair.story


def test_a_record_that_is_out_of_form_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.sources.SAMPLE", texts_in(tmp_path, stories="PROMPT: two\nlines\n\nA story."))
    with pytest.raises(DataError, match="does not start with"):
        list(sample_pairs())
