"""The list of books, and fetching it: whole, politely, and never with a wrong book in it."""

import re
from pathlib import Path

import pytest

from bpe.errors import FileError
from data import gutenberg_books
from data.download import Downloader, Unreachable
from data.errors import DataError
from data.gutenberg_books import BOOKS, MIRRORS, Book
from data.partial import Partial

SHELF = (Book(1, "The First Book", "A"), Book(2, "My Antonia's Second", "B"), Book(3, "A Third", "C"))


def raw(title: str) -> bytes:
    return f"The Project Gutenberg EBook of {title}, by A\r\n\r\nTitle: {title}\r\n\r\n*** START OF".encode()


class Shop(Downloader):
    """A downloader that has three books, without a web."""

    def __init__(self) -> None:
        super().__init__()
        self.files = {1: raw("The first book: a tale"), 2: raw("My Ántonia’s Second, Complete"), 3: raw("A third")}
        self.errors: dict[int, Exception] = {}
        self.asked: list[str] = []

    def fetch(self, urls, to, *, sha256=None, progress=None):  # type: ignore[no-untyped-def]
        self.asked.append(urls[0])
        number = int(re.findall(r"\d+", urls[0])[-1])
        if number in self.errors:
            raise self.errors[number]
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(self.files[number])
        progress(len(self.files[number]))
        return to


def fetch(folder: Path, shop: Shop, books: tuple[Book, ...] = SHELF) -> list[str]:
    return [path.name for path in gutenberg_books.download(folder, books=books, downloader=shop)]


def test_the_list_holds_about_a_hundred_different_books() -> None:
    assert 95 <= len(BOOKS) <= 110
    assert len({book.id for book in BOOKS}) == len({(book.title, book.author) for book in BOOKS}) == len(BOOKS)
    assert [book.id for book in BOOKS] == sorted(book.id for book in BOOKS)


def test_programs_never_ask_the_site_that_is_for_people() -> None:
    assert not any("//www.gutenberg.org" in mirror for mirror in MIRRORS)
    assert all("{id}" in mirror for mirror in MIRRORS)


def test_books_come_in_the_order_of_the_list_and_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = Shop()
    for _ in range(2):
        assert fetch(tmp_path / "new", shop) == ["pg1.txt", "pg2.txt", "pg3.txt"]
    assert len(shop.asked) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"Project Gutenberg: 3 of 3 books to fetch into .*, about 2 MB and 1 min at .*\n", err)


@pytest.mark.parametrize("found", ["Another Book", "The First", "Books: The First", ""])
def test_a_book_of_another_title_is_left_out_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], found: str
) -> None:
    shop = Shop()
    shop.files[1] = raw(found)
    assert fetch(tmp_path, shop) == ["pg2.txt", "pg3.txt"]
    assert "left out The First Book (number 1): " in capsys.readouterr().err


def test_one_book_that_fails_is_left_out_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = Shop()
    shop.errors[2] = DataError("cannot fetch pg2.txt: HTTP 404")
    assert fetch(tmp_path, shop) == ["pg1.txt", "pg3.txt"]
    assert "left out My Antonia's Second (number 2): cannot fetch pg2.txt: HTTP 404" in capsys.readouterr().err


def test_without_a_network_it_ends_after_the_first_book(tmp_path: Path) -> None:
    shop = Shop()
    shop.errors[1] = Unreachable("no server answers")
    with pytest.raises(DataError, match=r"no server answers \(0 of 3 .* books are there\)"):
        fetch(tmp_path, shop)
    assert len(shop.asked) == 1


def test_without_a_network_nearly_all_books_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shelf = tuple(Book(i, f"Book Number {i}", "A") for i in range(1, 11))
    shop = Shop()
    shop.files = {book.id: raw(book.title) for book in shelf}
    shop.errors[10] = Unreachable("no server answers")
    assert len(fetch(tmp_path, shop, shelf)) == 9
    assert "left out Book Number 10" in capsys.readouterr().err


def test_no_book_at_all_is_an_error(tmp_path: Path) -> None:
    shop = Shop()
    shop.errors = {book.id: DataError("HTTP 404") for book in SHELF}
    with pytest.raises(DataError, match=r"none of 3 .* could be had: HTTP 404"):
        fetch(tmp_path, shop)


def test_a_full_disk_stops_it(tmp_path: Path) -> None:
    shop = Shop()
    shop.errors[1] = FileError("cannot write")
    with pytest.raises(FileError):
        fetch(tmp_path, shop)
    assert len(shop.asked) == 1


def test_a_book_that_another_process_is_fetching_ends_it(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="the system has no such locks")
    mirrors = ["http://never.invalid/{id}.txt"]
    with (
        Partial(tmp_path / "pg2.txt"),
        pytest.raises(FileError, match=r"another process is fetching .*pg2\.txt; wait"),
    ):
        gutenberg_books.download(tmp_path, books=SHELF[1:], mirrors=mirrors, downloader=Downloader())


def test_a_book_that_was_changed_since_it_was_fetched_is_named(tmp_path: Path) -> None:
    fetch(tmp_path, Shop())
    gutenberg_books.download(tmp_path, books=SHELF)  # records what lies there
    (tmp_path / "pg3.txt").write_bytes(raw("A third") + b"more")
    with pytest.raises(DataError, match=r"pg3\.txt was changed"):
        gutenberg_books.download(tmp_path, books=SHELF)
