"""Bytes per token: of the right text, with the vocabulary that its name says."""

import json
from pathlib import Path

import pytest

from benchmarks import compression
from benchmarks.compression import bytes_per_token, main, our_vocabularies, split_by_name
from bpe import Tokenizer
from data.documents import Document
from data.errors import DataError
from data.layout import SPECIAL_TOKENS

TEXT = "the ship sank and the man swam to the shore; naïve snow fell, the end. " * 4


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two books, of which one is listed beside it; and small vocabularies to measure."""
    monkeypatch.setattr(compression, "SIZES", {"qwen2": (262, 270, 9_999), "gpt2": (9_999,)})
    monkeypatch.setattr(compression, "public_vocabularies", lambda: iter(()))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "One.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "texts" / "Two.txt").write_text("xyz " * 99, encoding="utf-8")
    (tmp_path / "list.txt").write_text("Two.txt\n", encoding="utf-8")
    return tmp_path


def test_where_every_byte_is_a_token_it_stands_for_one_byte() -> None:
    tok = Tokenizer.train([], vocab_size=256)
    assert bytes_per_token(["naïve", "☃", "the"], tok.encode) == 1
    assert bytes_per_token(["naïve"], str.split) == 6


def test_a_smaller_vocabulary_is_the_one_that_is_learned_at_that_size(texts: Path) -> None:
    for _, size, tokens in our_vocabularies(lambda: [TEXT]):
        learned = Tokenizer.train([TEXT], vocab_size=size, special_tokens=SPECIAL_TOKENS)
        if tokens.__self__.pattern == learned.pattern:  # type: ignore[attr-defined]
            assert tokens.__self__ == learned  # type: ignore[attr-defined]


def test_what_is_listed_is_held_out_and_what_is_not_there_is_named(texts: Path) -> None:
    documents = [Document("a.tar.xz/One.txt", "1"), Document("a.tar.xz/in/Two.txt", "2")]
    split = split_by_name(documents, texts / "list.txt")
    assert [split for split, _ in split] == ["train", "valid"]
    with pytest.raises(DataError, match=r"Two\.txt is listed"):
        list(split_by_name(documents[:1], texts / "list.txt"))


def test_blank_lines_of_the_list_say_nothing_and_an_empty_list_is_one_line(
    texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (texts / "list.txt").write_text("\nTwo.txt \n\n", encoding="utf-8")
    documents = [Document("One.txt", "1"), Document("Two.txt", "2")]
    assert [split for split, _ in split_by_name(documents, texts / "list.txt")] == ["train", "valid"]
    (texts / "list.txt").write_text("\n", encoding="utf-8")
    assert main(["--texts", str(texts / "texts"), "--held-out", str(texts / "list.txt"), "--json"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "list.txt lists no text to hold out" in err


def test_held_out_books_are_measured_and_not_learned_from(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--texts", str(texts / "texts"), "--held-out", str(texts / "list.txt"), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["vocabulary"].split()[1] for row in rows] == ["qwen2"] * 3 + ["gpt2"]
    assert rows[0]["size"] == 262 and rows[1]["size"] == 270 < rows[2]["size"] < 9_999
    assert all(row["books"] == pytest.approx(1, abs=0.01) for row in rows)  # no x, y or z was learned
    assert all(row["stories"] is None for row in rows)
    assert all(row["embedding"] == 640 * row["size"] for row in rows)
    assert all(0.001 < row["share"] < 0.01 for row in rows)


def test_without_a_list_the_end_of_each_text_is_held_out(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--texts", str(texts / "texts"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["books"] > 2


def test_stories_are_those_of_held_out_pairs(
    texts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (texts / "pairs").mkdir()
    for split, story in (("train", "no " * 60), ("valid", f"{TEXT} ")):
        (texts / "pairs" / f"{split}.wp_source").write_text(f"[ WP ] {split}\n")
        (texts / "pairs" / f"{split}.wp_target").write_text(f"{story}\n", encoding="utf-8")
    measured: list[list[str]] = []
    monkeypatch.setattr(compression, "bytes_per_token", lambda read, _: measured.append(list(read)) or 1.0)
    assert main(["--texts", str(texts / "texts"), "--pairs", str(texts / "pairs")]) == 0
    assert measured[1] == [TEXT.strip()]
    assert "1.000    1.000" in capsys.readouterr().out


def test_the_list_of_held_out_books_names_sixteen_authors() -> None:
    lines = (Path(compression.__file__).parent / "held_out_books.txt").read_text(encoding="utf-8").splitlines()
    assert len({line.split(" - ")[0] for line in lines}) == len(lines) == 16
    assert all(line.endswith(".txt") for line in lines)


def test_no_author_of_a_held_out_book_is_trained_on(corpora: Path) -> None:
    held_out = (Path(compression.__file__).parent / "held_out_books.txt").read_text(encoding="utf-8").splitlines()
    books = [line.split("\t")[0] for line in (corpora / "gutenberg" / "books.tsv").read_text().splitlines()[1:]]
    authors = {line.split(" - ")[0] for line in held_out}
    assert sorted(book for book in books if book.split(" - ")[0] in authors) == held_out
