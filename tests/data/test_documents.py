"""Laws of reading texts: what is a document, what is not text, and how little is held in memory."""

import gzip
import io
import logging
import lzma
import os
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import documents
from data.clean import normalise
from data.documents import bytes_of_text, read_texts, text_files
from data.errors import DataError
from data.sources import SAMPLE

STORY = "A fox crossed the river—slowly.\n\nIt was cold."


@pytest.fixture(autouse=True)
def nothing_was_warned_of() -> None:
    documents.warn_once.cache_clear()


def texts(*paths: Path) -> list[str]:
    return [document.text for document in read_texts(paths)]


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


class Bar:
    """What was told to a progress bar."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.steps: list[int] = []

    def update(self, step: int) -> None:
        self.steps.append(step)

    @property
    def n(self) -> int:
        return sum(self.steps)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None: ...


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:xz" if path.name.endswith("xz") else "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_every_kind_of_file_gives_the_same_text(tmp_path: Path) -> None:
    raw = STORY.encode("utf-8")
    written(tmp_path / "a.txt", raw)
    written(tmp_path / "b.md", raw)
    written(tmp_path / "c.txt.gz", gzip.compress(raw))
    written(tmp_path / "d.txt.xz", lzma.compress(raw))
    tar_of(tmp_path / "e.tar.xz", {"in/one.txt": raw, "cover.jpg": b"\0\1", ".hidden.txt": raw})
    tar_of(tmp_path / "f.tar.gz", {"one.txt": raw})
    with zipfile.ZipFile(tmp_path / "g.zip", "w") as archive:
        archive.writestr("one.txt", raw)
        archive.writestr("__MACOSX/._one.txt", b"\0")
    assert texts(tmp_path) == [STORY] * 7


def test_a_progress_bar_follows_the_bytes_that_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Bar] = []
    monkeypatch.setattr(documents, "progress_bar", lambda **options: bars.append(Bar(options)) or bars[-1])
    stories = {name: os.urandom(300_000).hex().encode() for name in ("one.txt", "two.txt")}  # large when packed too
    written(tmp_path / "a.txt", stories["one.txt"])
    written(tmp_path / "b.txt.gz", gzip.compress(stories["one.txt"]))
    tar_of(tmp_path / "c.tar.xz", stories)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name, story in stories.items():
            archive.writestr(name, story)
    sizes = [file.stat().st_size for file in sorted(tmp_path.iterdir())]

    assert len([*read_texts([tmp_path], "counting")]) == 6
    (bar,) = bars
    assert bar.options["description"] == "counting"
    assert bar.options["total"] == bar.n == sum(sizes)
    assert min(bar.steps) >= 0
    half_of_each_archive = [sum(sizes[:2]) + sizes[2] / 2, sum(sizes[:3]) + sizes[3] / 2]
    read = list(accumulate(bar.steps))
    assert all(min(abs(place - half) for place in read) < sum(sizes) / 50 for half in half_of_each_archive)


def test_a_folder_is_read_whole_in_order_and_other_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/y.txt", ".hidden.txt", ".git/x.txt", "picture.jpg", "list.json"):
        written(tmp_path / name, name)
    assert [str(file.relative_to(tmp_path)) for file in text_files([tmp_path])] == ["a/y.txt", "a/z.txt", "b.txt"]


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    file = written(tmp_path / "a.txt", STORY)
    (tmp_path / "b.txt").symlink_to(file)
    assert texts(tmp_path, file, tmp_path / ".." / tmp_path.name / "a.txt") == [STORY]


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    written(tmp_path / "inner" / "a.txt", STORY)
    for name in ("back", "again"):  # two, as the number of paths then doubles with each turn
        (tmp_path / "inner" / name).symlink_to(tmp_path)
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nowhere")
    assert texts(tmp_path) == [STORY]


def test_separator_lines_separate_documents_and_nothing_else_does(tmp_path: Path) -> None:
    file = written(
        tmp_path / "a.txt", "one\r\n<|endoftext|>\r\n\r\ntwo <|endoftext|> still\n <|endoftext|> \n<|endoftext|>"
    )
    read = list(read_texts([file]))
    assert [document.text for document in read] == ["one", "two <|endoftext|> still"]
    assert [document.name for document in read] == [str(file), f"{file} #2"]


@settings(max_examples=50)
@given(data=st.data(), stories=st.lists(st.text("ab\n <|é", max_size=12).filter(normalise), min_size=1, max_size=5))
def test_where_the_blocks_are_cut_never_changes_the_documents(data: st.DataObject, stories: list[str]) -> None:
    text = "\n<|endoftext|>\n".join(stories)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    blocks = [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert [normalise(read) for read in documents._documents(iter(blocks))] == list(map(normalise, stories))


@pytest.mark.parametrize("join", ["\n\n", "\n", " ", ""])
@pytest.mark.parametrize("limit", [50, 1000])
def test_a_document_that_is_too_long_goes_on_as_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, join: str, limit: int
) -> None:
    monkeypatch.setattr(documents, "MAX_DOCUMENT", limit)
    monkeypatch.setattr(documents, "_BLOCK", 7)
    text = join.join(["fünf", "Wörter", "mehr"] * 200)
    pieces = texts(written(tmp_path / "a.txt", text))
    assert max(map(len, pieces)) <= limit
    assert len(pieces) <= 2 * len(text) / limit + 1
    assert join.join(pieces) == text


@pytest.mark.slow
@pytest.mark.parametrize("line", ["x" * 999 + "\n", "x" * 1000, "a story\n<|endoftext|>\n"])
def test_a_large_file_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(documents, "MAX_DOCUMENT", 250_000)
    monkeypatch.setattr(documents, "_BLOCK", 1 << 16)
    size = 4_000_000
    file = written(tmp_path / "a.txt", line * (size // len(line)))
    tracemalloc.start()
    kept = sum(len(document.text) for document in read_texts([file]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kept > size // 4
    assert peak < 8 * documents.MAX_DOCUMENT < size  # copies of one document: bytes, text, and cleaned text


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "", "no text"),
        ("a.txt", " \n\n ", "no text"),
        ("a.txt", b"GIF89a\0\0\1", "not a text file"),
        ("a.txt", "hi".encode("utf-16"), "UTF-16"),
        ("a.txt", b"caf\xe9 society", "byte 3"),
        ("a.txt", b"caf\xe9 society", "iconv"),
        ("a.pdf", "text", "kind"),
        ("a.txt.gz", b"not gzip", "damaged"),
        ("a.txt.xz", lzma.compress(STORY.encode() * 9)[:-9], "damaged"),
        ("a.txt.gz", gzip.compress(STORY.encode() * 9, mtime=0)[:-9], "damaged"),
        ("a.zip", b"PK not zip", "damaged"),
        ("a.tar.xz", b"not tar", "damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_of_one_line(
    tmp_path: Path, name: str, content: str | bytes, says: str
) -> None:
    file = written(tmp_path / name, content)
    with pytest.raises(DataError, match=says) as caught:
        texts(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_archive_packed_in_a_way_that_is_not_known_here_is_an_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.txt", STORY * 9)
    deflated, deflate64 = (bytes([20, 0, 0, 0, method, 0]) for method in (8, 9))
    raw = (tmp_path / "a.zip").read_bytes()
    assert raw.count(deflated) == 2
    with pytest.raises(DataError, match=r"a\.zip cannot be unpacked here .*; unpack it and name the folder"):
        texts(written(tmp_path / "a.zip", raw.replace(deflated, deflate64)))


def test_a_missing_file_and_a_folder_without_texts_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file or folder .*nowhere"):
        texts(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no text files"):
        texts(tmp_path)


def test_a_byte_that_is_not_utf8_is_named_in_a_large_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_DOCUMENT", 10)
    monkeypatch.setattr(documents, "_BLOCK", 7)
    before = "aé—" * 30
    file = written(tmp_path / "a.txt", before.encode("utf-8") + b"\xe9 and more")
    with pytest.raises(DataError, match=f"byte {len(before.encode('utf-8'))};"):
        texts(file)
    with pytest.raises(DataError, match="cut short"):
        texts(written(file, before.encode("utf-8")[:-1]))


@pytest.mark.parametrize("kind", ["a.txt", "a.tar.xz", "a.zip"])
def test_a_file_without_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    file = written(tmp_path / kind, STORY)

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DataError, match=r"cannot read .*Permission denied"):
        texts(file)


def test_a_folder_without_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"cannot read .*Permission denied"):
        texts(tmp_path)


def test_a_book_that_cannot_be_cleaned_is_skipped_and_listed_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path / "bad.txt", "*** START OF THE PROJECT GUTENBERG EBOOK A FOX ***\n\nA fox.\n")
    written(tmp_path / "good.txt", STORY)
    with caplog.at_level(logging.WARNING, "data"):
        assert texts(tmp_path) == texts(tmp_path) == [STORY]
    assert len(caplog.messages) == 1
    assert str(tmp_path / "bad.txt") in caplog.messages[0]


def test_an_empty_file_among_others_does_no_harm(tmp_path: Path) -> None:
    written(tmp_path / "empty.txt", "")
    written(tmp_path / "good.txt", STORY)
    assert texts(tmp_path) == [STORY]


def test_an_old_book_in_latin_1_is_read_by_what_it_declares(tmp_path: Path) -> None:
    frame = (
        "Title: A Fox\n\nCharacter set encoding: ISO-8859-1\n\n*** START OF THE PROJECT GUTENBERG EBOOK A FOX ***\n\n"
    )
    end = "\n\n*** END OF THE PROJECT GUTENBERG EBOOK A FOX ***\n"
    book = "A FOX\n\nThe fox went to the caf\u00e9 and had a cup of tea.\n"
    (text,) = texts(written(tmp_path / "a.txt", (frame + book + end).encode("latin-1")))
    assert "the café and" in text and "GUTENBERG" not in text


def test_the_books_of_the_archive_all_come_out(corpora: Path) -> None:
    mini = corpora / "gutenberg" / "mini"
    read = list(read_texts([mini]))
    assert len(read) == len(list(mini.iterdir())) == 20
    assert sum(len(document.text) for document in read) > 0.97 * sum(file.stat().st_size for file in mini.iterdir())


@pytest.mark.parametrize("ending", [".txt.gz", ".txt.xz"])
def test_how_much_text_there_is_is_known_about_also_where_it_is_packed(ending: str, tmp_path: Path) -> None:
    plain = text_files([SAMPLE])
    written = sum(path.stat().st_size for path in plain)
    assert bytes_of_text(plain) == written
    packed = tmp_path / f"all{ending}"
    together = b"".join(path.read_bytes() for path in plain)
    packed.write_bytes(gzip.compress(together) if ending == ".txt.gz" else lzma.compress(together))
    assert 0.7 * written < bytes_of_text([packed]) < 1.5 * written
    with pytest.raises(DataError, match="cannot read"):
        bytes_of_text([tmp_path / "gone.txt"])
