"""A stated list of a hundred Project Gutenberg books, English fiction, and how they are fetched.

In: a folder for downloads.  Out: the books in it as raw files, pg1342.txt and so on, each with its record
(data/partial.py).

Project Gutenberg keeps its own site for people and asks programs to use mirrors, a request every two seconds or slower;
so the files come from the mirrors below and never from www.gutenberg.org. A file counts only if the title in its header
is the one listed here, so a wrong number can never bring a wrong book in.
"""

import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bpe.progress import progress_bar
from data.download import Downloader, Unreachable
from data.errors import DataError
from data.gutenberg import decode, title
from data.partial import verify

MIRRORS = (
    "https://aleph.pglaf.org/cache/epub/{id}/pg{id}.txt",
    "https://gutenberg.pglaf.org/cache/epub/{id}/pg{id}.txt",
    "http://aleph.gutenberg.org/cache/epub/{id}/pg{id}.txt",
)
_MEGABYTES_EACH = 0.7
_SECONDS_EACH = 3.0  # two of them the pause between requests
_ENOUGH = 0.9  # of the books: with so many at hand, a run without a network goes on


class Book(NamedTuple):
    """A book of Project Gutenberg: its number there, and words that its title there holds."""

    id: int
    title: str
    author: str


BOOKS = (
    Book(11, "Alice's Adventures in Wonderland", "Lewis Carroll"),
    Book(12, "Through the Looking-Glass", "Lewis Carroll"),
    Book(16, "Peter Pan", "J. M. Barrie"),
    Book(24, "O Pioneers!", "Willa Cather"),
    Book(32, "Herland", "Charlotte Perkins Gilman"),
    Book(33, "The Scarlet Letter", "Nathaniel Hawthorne"),
    Book(35, "The Time Machine", "H. G. Wells"),
    Book(36, "The War of the Worlds", "H. G. Wells"),
    Book(41, "The Legend of Sleepy Hollow", "Washington Irving"),
    Book(43, "The Strange Case of Dr. Jekyll and Mr. Hyde", "Robert Louis Stevenson"),
    Book(45, "Anne of Green Gables", "L. M. Montgomery"),
    Book(46, "A Christmas Carol", "Charles Dickens"),
    Book(47, "Anne of Avonlea", "L. M. Montgomery"),
    Book(54, "The Marvelous Land of Oz", "L. Frank Baum"),
    Book(55, "The Wonderful Wizard of Oz", "L. Frank Baum"),
    Book(60, "The Scarlet Pimpernel", "Baroness Orczy"),
    Book(62, "A Princess of Mars", "Edgar Rice Burroughs"),
    Book(73, "The Red Badge of Courage", "Stephen Crane"),
    Book(74, "The Adventures of Tom Sawyer", "Mark Twain"),
    Book(76, "Adventures of Huckleberry Finn", "Mark Twain"),
    Book(77, "The House of the Seven Gables", "Nathaniel Hawthorne"),
    Book(78, "Tarzan of the Apes", "Edgar Rice Burroughs"),
    Book(82, "Ivanhoe", "Walter Scott"),
    Book(84, "Frankenstein", "Mary Wollstonecraft Shelley"),
    Book(86, "A Connecticut Yankee in King Arthur's Court", "Mark Twain"),
    Book(95, "The Prisoner of Zenda", "Anthony Hope"),
    Book(98, "A Tale of Two Cities", "Charles Dickens"),
    Book(105, "Persuasion", "Jane Austen"),
    Book(107, "Far from the Madding Crowd", "Thomas Hardy"),
    Book(108, "The Return of Sherlock Holmes", "Arthur Conan Doyle"),
    Book(110, "Tess of the d'Urbervilles", "Thomas Hardy"),
    Book(113, "The Secret Garden", "Frances Hodgson Burnett"),
    Book(120, "Treasure Island", "Robert Louis Stevenson"),
    Book(121, "Northanger Abbey", "Jane Austen"),
    Book(139, "The Lost World", "Arthur Conan Doyle"),
    Book(140, "The Jungle", "Upton Sinclair"),
    Book(141, "Mansfield Park", "Jane Austen"),
    Book(143, "The Mayor of Casterbridge", "Thomas Hardy"),
    Book(145, "Middlemarch", "George Eliot"),
    Book(146, "A Little Princess", "Frances Hodgson Burnett"),
    Book(153, "Jude the Obscure", "Thomas Hardy"),
    Book(155, "The Moonstone", "Wilkie Collins"),
    Book(158, "Emma", "Jane Austen"),
    Book(159, "The Island of Doctor Moreau", "H. G. Wells"),
    Book(160, "The Awakening", "Kate Chopin"),
    Book(161, "Sense and Sensibility", "Jane Austen"),
    Book(174, "The Picture of Dorian Gray", "Oscar Wilde"),
    Book(203, "Uncle Tom's Cabin", "Harriet Beecher Stowe"),
    Book(204, "The Innocence of Father Brown", "G. K. Chesterton"),
    Book(208, "Daisy Miller", "Henry James"),
    Book(209, "The Turn of the Screw", "Henry James"),
    Book(215, "The Call of the Wild", "Jack London"),
    Book(219, "Heart of Darkness", "Joseph Conrad"),
    Book(236, "The Jungle Book", "Rudyard Kipling"),
    Book(242, "My Antonia", "Willa Cather"),
    Book(244, "A Study in Scarlet", "Arthur Conan Doyle"),
    Book(271, "Black Beauty", "Anna Sewell"),
    Book(284, "The House of Mirth", "Edith Wharton"),
    Book(289, "The Wind in the Willows", "Kenneth Grahame"),
    Book(308, "Three Men in a Boat", "Jerome K. Jerome"),
    Book(345, "Dracula", "Bram Stoker"),
    Book(394, "Cranford", "Elizabeth Gaskell"),
    Book(421, "Kidnapped", "Robert Louis Stevenson"),
    Book(507, "Adam Bede", "George Eliot"),
    Book(514, "Little Women", "Louisa May Alcott"),
    Book(521, "Robinson Crusoe", "Daniel Defoe"),
    Book(541, "The Age of Innocence", "Edith Wharton"),
    Book(550, "Silas Marner", "George Eliot"),
    Book(558, "The Thirty-Nine Steps", "John Buchan"),
    Book(583, "The Woman in White", "Wilkie Collins"),
    Book(599, "Vanity Fair", "William Makepeace Thackeray"),
    Book(708, "The Princess and the Goblin", "George MacDonald"),
    Book(730, "Oliver Twist", "Charles Dickens"),
    Book(766, "David Copperfield", "Charles Dickens"),
    Book(768, "Wuthering Heights", "Emily Brontë"),
    Book(778, "Five Children and It", "E. Nesbit"),
    Book(786, "Hard Times", "Charles Dickens"),
    Book(805, "This Side of Paradise", "F. Scott Fitzgerald"),
    Book(829, "Gulliver's Travels", "Jonathan Swift"),
    Book(834, "The Memoirs of Sherlock Holmes", "Arthur Conan Doyle"),
    Book(910, "White Fang", "Jack London"),
    Book(940, "The Last of the Mohicans", "James Fenimore Cooper"),
    Book(969, "The Tenant of Wildfell Hall", "Anne Brontë"),
    Book(974, "The Secret Agent", "Joseph Conrad"),
    Book(1023, "Bleak House", "Charles Dickens"),
    Book(1074, "The Sea-Wolf", "Jack London"),
    Book(1260, "Jane Eyre", "Charlotte Brontë"),
    Book(1300, "Riders of the Purple Sage", "Zane Grey"),
    Book(1342, "Pride and Prejudice", "Jane Austen"),
    Book(1400, "Great Expectations", "Charles Dickens"),
    Book(1661, "The Adventures of Sherlock Holmes", "Arthur Conan Doyle"),
    Book(1695, "The Man Who Was Thursday", "G. K. Chesterton"),
    Book(1837, "The Prince and the Pauper", "Mark Twain"),
    Book(1874, "The Railway Children", "E. Nesbit"),
    Book(2097, "The Sign of the Four", "Arthur Conan Doyle"),
    Book(2166, "King Solomon's Mines", "H. Rider Haggard"),
    Book(2226, "Kim", "Rudyard Kipling"),
    Book(2641, "A Room with a View", "E. M. Forster"),
    Book(2701, "Moby Dick", "Herman Melville"),
    Book(2814, "Dubliners", "James Joyce"),
    Book(2852, "The Hound of the Baskervilles", "Arthur Conan Doyle"),
    Book(4217, "A Portrait of the Artist as a Young Man", "James Joyce"),
    Book(4276, "North and South", "Elizabeth Gaskell"),
    Book(4517, "Ethan Frome", "Edith Wharton"),
    Book(5230, "The Invisible Man", "H. G. Wells"),
    Book(64317, "The Great Gatsby", "F. Scott Fitzgerald"),
)


def download(
    folder: Path,
    *,
    books: Sequence[Book] = BOOKS,
    mirrors: Sequence[str] = MIRRORS,
    downloader: Downloader | None = None,
) -> list[Path]:
    """Have the books in a folder, fetching those that are not there; their files, in the list's order.

    mirrors: addresses with {id} in them. Says on stderr, before it begins, how many books, how much and how long, and
    at the end which books it had to leave out and why. Raises DataError when no server answers and fewer than nine in
    ten books are there, when no book could be had, and for a file that was changed since it was fetched.
    """
    files = {book: folder / f"pg{book.id}.txt" for book in books}
    missing = [book for book in books if not files[book].exists()]
    for book in books:
        if files[book].exists():
            verify(files[book])
    left_out = _fetch(missing, files, mirrors, downloader or Downloader()) if missing else {}
    for book in books:
        if book not in left_out and not _has_title(files[book], book.title):
            left_out[book] = f"{files[book]} is another book"
    for book, reason in left_out.items():
        print(f"Project Gutenberg: left out {book.title} (number {book.id}): {reason}", file=sys.stderr)
    had = [files[book] for book in books if book not in left_out]
    if not had:
        raise DataError(f"none of {len(books)} Project Gutenberg books could be had: {next(iter(left_out.values()))}")
    return had


def _fetch(
    missing: Sequence[Book],
    files: dict[Book, Path],
    mirrors: Sequence[str],
    downloader: Downloader,
) -> dict[Book, str]:
    """Fetch books one after another; what comes back is those that cannot be had, with the reason."""
    left_out: dict[Book, str] = {}
    folder = files[missing[0]].parent
    minutes = len(missing) * _SECONDS_EACH / 60
    print(
        f"Project Gutenberg: {len(missing)} of {len(files)} books to fetch into {folder}, about"
        f" {len(missing) * _MEGABYTES_EACH:.0f} MB and {max(minutes, 1):.0f} min at one request every"
        f" {downloader.pause:g} s; once only, and a stopped download goes on where it was",
        file=sys.stderr,
    )
    with progress_bar(total=len(missing), description="Project Gutenberg", unit="book") as bar:
        for book in missing:
            bar.set_postfix_str(book.title, refresh=False)
            addresses = [mirror.format(id=book.id) for mirror in mirrors]
            try:
                downloader.fetch(addresses, files[book], progress=lambda _: bar.refresh())
            except Unreachable as error:
                there = sum(file.exists() for file in files.values())
                if there < _ENOUGH * len(files):
                    raise Unreachable(f"{error} ({there} of {len(files)} Project Gutenberg books are there)") from error
                left_out[book] = str(error)
            except DataError as error:
                left_out[book] = str(error)
            bar.update()
    return left_out


def _has_title(file: Path, wanted: str) -> bool:
    """Whether the header of a raw file gives a title that holds the wanted words."""
    with file.open("rb") as start:
        header = start.read(20_000)
    try:
        found = title(decode(header[: header.rfind(b"\n") + 1]))
    except DataError:
        return False
    return f" {_words(wanted)} " in f" {_words(found)} "


def _words(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return " ".join(re.findall(r"[a-z0-9]+", plain.encode("ascii", "ignore").decode().replace("'", "")))
