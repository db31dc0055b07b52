"""Project Gutenberg files: whatever the style, the book and nothing else comes out, or the caller hears why not."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.gutenberg import Uncertain, clean, decode, main

HERE = Path(__file__).parent / "gutenberg"
STYLES = sorted(path.stem for path in HERE.glob("*.txt"))
REAL = {  # SHA-256 of the cleaned book in UTF-8
    "16215-8.txt": "755e88ef10e3af6716e31336c3cb74827633568fbb2e53885f933b83f5aef97f",
    "2701-0.txt": "ca0ebb3f1e7bc8cab801125a8dcbf6ff30764393f5d6285a6a316504e00b00df",
    "moby10b.txt": "a740ae4736aaceb0b112c0c983fca71586b992af1a61ff1deed05762eaf7bc27",
    "pg1661.txt": "1429d59367f5088faf245d8203cf8dac5f0e7fd7b5261459ab065233001f0a50",
}
FIRST_AND_LAST = {
    "16215-8.txt": ("JACK SHEPPARD A Romance", "supplied the inscription, which ran thus--"),
    "2701-0.txt": ("MOBY-DICK;", "only found another orphan."),
    "moby10b.txt": ("MOBY DICK; OR THE WHALE", "only found another orphan."),
    "pg1661.txt": ("The Adventures of Sherlock Holmes", "met with considerable success."),
}
NOT_THE_BOOK = re.compile(
    r"gutenberg|transcriber|\be-?text|ebook|produced by |proofread|\[illustration|footnote|www\.|http|public domain|_",
    re.IGNORECASE,
)


def style(name: str) -> str:
    return decode((HERE / f"{name}.txt").read_bytes())


def book(inside: str) -> str:
    return (
        "The Project Gutenberg EBook of A Book, by A. Body\n\nTitle: A Book\n\n"
        "*** START OF THIS PROJECT GUTENBERG EBOOK A BOOK ***\n\n\n"
        f"{inside}\n\n\n*** END OF THIS PROJECT GUTENBERG EBOOK A BOOK ***\n\nlicence\n"
    )


@pytest.mark.parametrize("name", STYLES)
def test_every_style_of_file_gives_the_book_alone(name: str) -> None:
    assert clean(style(name)) == (HERE / f"{name}.expected").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", STYLES)
def test_cleaning_adds_no_word_and_changes_no_order(name: str) -> None:
    words = iter(re.findall(r"[^\W_]+", style(name).replace("_", "")))
    assert all(word in words for word in re.findall(r"[^\W_]+", clean(style(name))))


@pytest.mark.parametrize("name", STYLES)
def test_cleaning_a_cleaned_book_changes_nothing(name: str) -> None:
    once = clean(style(name))
    assert clean(once) == once


@pytest.mark.parametrize("name", STYLES)
def test_line_ends_and_byte_order_marks_make_no_difference(name: str) -> None:
    text = style(name)
    assert clean("\ufeff" + text.replace("\n", "\r\n")) == clean(text)


@pytest.mark.parametrize("name", sorted(REAL))
def test_a_real_file_gives_the_same_book_as_when_it_was_read_by_eye(corpora: Path, name: str) -> None:
    text = clean(decode((corpora / "gutenberg" / "raw" / name).read_bytes()))
    first, last = FIRST_AND_LAST[name]
    assert text.startswith(f"{first}\n")
    assert text.endswith(f"{last}\n")
    assert not (found := NOT_THE_BOOK.search(text.replace("produced by ", "", 10))), found
    assert hashlib.sha256(text.encode("utf-8")).hexdigest() == REAL[name]


@settings(max_examples=50)
@given(st.text())
def test_text_without_a_marker_passes_unchanged(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Gutenberg invented the printing press.\r\nProject Gutenberg gives books away.\n",
        'She wrote "Transcriber\'s note" over it.\n\n[Illustration: a cat]\n\n_So_ she did.\n',
    ],
)
def test_text_that_only_speaks_of_gutenberg_passes_unchanged(text: str) -> None:
    assert clean(text) == text


START, END = "*** START OF THE PROJECT GUTENBERG EBOOK A ***", "*** END OF THE PROJECT GUTENBERG EBOOK A ***"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{START}\n\nA book.\n", "no end marker"),
        (f"A book.\n\n{END}\n", "no start marker"),
        ("The Project Gutenberg EBook of A, by B\n\nA book.\n", "no end marker"),
        (f"{END}\n\nA book.\n\n{START}\n", "before its start"),
        (f"{START}\nOne.\n{END}\n\n{START}\nTwo.\n{END}\n", "more than one start"),
        (f"{START}\nOne.\n{END}\n" + "More of the book, it seems.\n" * 40 + END, "far apart"),
        (f"{START}\n\n\n{END}\n", "nothing is left"),
        (f"{START}\n\n[Illustration: a cat\n\nA book.\n\n{END}\n", "opens a bracket"),
        (f"{START}\n\nTranscriber's Notes:\n\nOnce upon a time there was a king.\n\n{END}\n", "transcriber's note"),
        (
            book("He read.\n\n" * 30 + "This Project Gutenberg etext is free.\n\n" + "He read.\n\n" * 30),
            "not the book's",
        ),
    ],
)
def test_a_marked_book_that_leaves_doubt_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(Uncertain, match=reason) as caught:
        clean(text)
    assert isinstance(caught.value, DataError)
    assert "\n" not in str(caught.value)


def test_what_stands_between_two_end_markers_of_one_book_is_not_the_book() -> None:
    text = f"{START}\n\nOne.\n\nEnd of the Project Gutenberg EBook of A, by B\n\n{END}\n"
    assert clean(text) == "One.\n"


@pytest.mark.parametrize(
    "sentence",
    [
        '"Entered by the window," said Holmes.',
        "“Entered by Regent Street,” said Holmes.",
        "Prepared for the worst, he opened the door.",
        '"Posted by whom?" he asked.',
        "Posted in London that night, the letter came too late.",
        "He had generously made over his estate to her.",
        "The room was made available by the landlord.",
    ],
)
def test_a_sentence_of_the_book_is_no_credit(sentence: str) -> None:
    for inside in (f"{sentence}\n\nHe read.", f"He read.\n\n{sentence}"):
        assert sentence in clean(book(inside))


@pytest.mark.parametrize(
    "credit",
    [
        "Produced by Some Body and PG Distributed Proofreaders",
        "Produced by Some van Body. HTML version by Any Body.",
        "PRODUCED BY SOME BODY",
        "Produced by an anonymous volunteer.",
        "Transcribed from the 1894 Macmillan and Co. edition by Some Body",
        "Scanned and proofed by Some Body, with OmniPage Professional OCR software",
        "Prepared by: Some Body",
        "[Produced by Some Body, with the assistance of Any Body.]",
        "This etext was prepared by Some Body, Omaha. The equipment: a flatbed scanner, and a board lent by Any Body.",
        "Credits: bookfriend",
        "(This file was produced from scanned images made available by\nthe Library of Some Place.)",
    ],
)
def test_a_credit_is_not_the_book(credit: str) -> None:
    for inside in (f"{credit}\n\nHe read.", f"He read.\n\n{credit}"):
        assert clean(book(inside)) == "He read.\n"


@pytest.mark.parametrize("text", ["Prepared by Mrs. Hudson, the dinner was good.", "Produced by bookfriend"])
def test_what_may_be_a_credit_or_a_sentence_leaves_doubt(text: str) -> None:
    with pytest.raises(Uncertain, match="may be a credit or the book's own"):
        clean(book(f"{text}\n\nHe read."))


def test_a_contents_list_whose_end_is_not_certain_is_kept() -> None:
    inside = "A BOOK\n\nCONTENTS\n\nOf kings\n\nOf queens\n\nThe king was old, and he had never liked the sea.\n"
    assert "Of kings\n\nOf queens" in clean(book(inside))


def test_a_transcribers_note_ends_at_a_wide_gap_whatever_follows() -> None:
    inside = "Transcriber's Note: the spelling was kept.\n\n\n\nHe corrected the proofs.\n\n" + "He read.\n\n" * 60
    assert clean(book(inside)).startswith("He corrected the proofs.\n\nHe read.")


@pytest.mark.parametrize("declared", ["ISO-8859-1", "ISO Latin-1", "Windows-1252", "CP-1252"])
def test_bytes_decode_by_the_character_set_they_declare(declared: str) -> None:
    raw = f"Character set encoding: {declared}\r\n\r\ncafé\r\n".encode("latin-1")
    assert decode(raw) == f"Character set encoding: {declared}\n\ncafé\n"


def test_curly_quotes_in_a_file_that_declares_latin_1_are_read_as_windows_wrote_them() -> None:
    assert decode(b"Character set encoding: ISO-8859-1\n\n\x93No,\x94 she said.\n").endswith("“No,” she said.\n")


@given(st.text(alphabet=st.characters(exclude_characters="\r\ufeff", exclude_categories=["Cs"])))
def test_utf_8_decodes_to_itself_with_or_without_a_byte_order_mark(text: str) -> None:
    assert decode(text.encode("utf-8")) == decode(text.encode("utf-8-sig")) == text


def test_bytes_of_no_known_character_set_are_an_error_that_names_the_place() -> None:
    with pytest.raises(DataError, match=r"byte 3.*iconv"):
        decode(b"caf\xe9")


def test_the_command_prints_the_book(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([str(HERE / "2005_latin1.txt")]) == 0
    assert capfd.readouterr().out == (HERE / "2005_latin1.expected").read_text(encoding="utf-8")


@pytest.mark.parametrize("argument", ["missing.txt", ".", "cut.txt", "binary.txt"])
def test_the_command_answers_bad_input_with_one_line_and_status_2(
    argument: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.txt").write_text(f"{START}\n\nA book.\n", encoding="utf-8")
    (tmp_path / "binary.txt").write_bytes(b"\x00\xff\xfe")
    assert main([str(tmp_path / argument)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(tmp_path / argument) in err


@pytest.mark.parametrize("arguments", [[], ["one.txt", "two.txt"], ["--fast", "one.txt"]])
def test_a_command_line_that_cannot_be_read_is_one_line_and_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("data.gutenberg: ") and "--help" in err


def test_the_command_ends_quietly_when_its_reader_goes_away(tmp_path: Path) -> None:
    long = tmp_path / "long.txt"
    long.write_text(book("A line that is read by nobody.\n\n" * 20_000), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "data.gutenberg", str(long)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=HERE.parents[2],
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0
