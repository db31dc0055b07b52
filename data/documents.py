"""Files and folders of text -> a stream of documents.

In: paths of folders, plain or compressed text files and archives.  Out: cleaned documents, one at a time. Files may be
of any size: they are read in blocks, and what is held in memory is one document of at most MAX_DOCUMENT characters.
"""

import codecs
import contextlib
import functools
import gzip
import io
import logging
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal

from bpe.progress import progress_bar
from data import gutenberg
from data.apparatus import Uncertain
from data.clean import normalise
from data.errors import CONVERT_IT, DataError

if TYPE_CHECKING:
    from tqdm import tqdm

Split = Literal["train", "valid"]

MAX_DOCUMENT = 8_000_000  # characters; a longer one goes on as another document
UNPACKED = 3  # times as long as it was packed is English text, about
_BLOCK = 1 << 20  # bytes read at a time

_PLAIN = (".txt", ".md")
_PACKED = (".txt.gz", ".txt.xz")
_TARS = (".tar.gz", ".tar.xz")
_ENDINGS = (*_PLAIN, *_PACKED, *_TARS, ".zip")
_SEPARATOR = re.compile(r"^[ \t]*<\|endoftext\|>[ \t]*\n", re.MULTILINE)
_DAMAGED = (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError)

_log = logging.getLogger("data")


@dataclass(frozen=True, slots=True)
class Document:
    """A text and where it came from: `books.tar.xz/Moby-Dick.txt`, or `stories.txt #2`, a file's second document."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and a story that answers it; the tag (`WP`, `EU`, ...) is what the model does not see.

    line: the story as its file has it, where it came from one; word perplexity counts the words of that.
    """

    prompt: str
    story: str
    tag: str = ""
    line: str = field(default="", compare=False, repr=False)


def read_texts(paths: Sequence[Path], purpose: str = "reading") -> Iterator[Document]:
    """Every document of these files and folders, cleaned, in `text_files`' order; a progress bar says what for.

    A file, or an archive's member, is a document; lines that hold only `<|endoftext|>` separate documents within it,
    and one longer than MAX_DOCUMENT goes on as another, cut at a paragraph, else at a line, a blank, or anywhere.
    Project Gutenberg's frame is taken off; a book where that is uncertain is skipped, with a warning. Documents
    without text are left out. Raises DataError for a file that cannot be read, is binary, or is not UTF-8, and when
    there is no text in any of them.
    """
    some = False
    files = text_files(paths)
    before = 0  # bytes of the files before this one
    with reading_bar(files, purpose) as bar:
        for file in files:
            with explained(file), file.open("rb") as packed:
                for name, stream in _streams(file, packed):
                    for number, raw in enumerate(_documents(_blocks(stream, name)), start=1):
                        if text := _cleaned(raw, name):
                            some = True
                            yield Document(name if number == 1 else f"{name} #{number}", text)
                        bar.update(before + packed.tell() - bar.n)
                before += packed.seek(0, io.SEEK_END)
                bar.update(before - bar.n)  # what stands behind an archive's last text
    if not some:
        raise DataError(
            f"no text in {_listed(paths)}: the files are empty or were skipped; name files with text in them"
        )


def text_files(paths: Sequence[Path]) -> list[Path]:
    """The text files and archives named by `paths` or lying anywhere below them, sorted, each once; no order matters.

    In folders, hidden files and files of other kinds are passed over; a file named outright has to be of a known kind.
    Raises DataError when a path is missing, unreadable, or of another kind, and when no file is found.
    """
    found: dict[Path, Path] = {}  # by real path, so that no file is read twice
    for path in paths:
        with explained(path):
            if path.is_dir():
                files = [file for file in _below(path, set()) if file.name.lower().endswith(_ENDINGS)]
            elif path.is_file():
                if not path.name.lower().endswith(_ENDINGS):
                    raise DataError(
                        f"{path} is not of a kind that is read here ({' '.join(_ENDINGS)}); rename or unpack it"
                    )
                files = [path]
            else:
                raise DataError(f"there is no file or folder {path}; check the spelling, or name another")
            for file in files:
                real = file.resolve()
                found[real] = min(file, found.get(real, file))
    if not found:
        raise DataError(f"no text files ({' '.join(_ENDINGS)}) in {_listed(paths)}; name a folder that holds some")
    return sorted(found.values())


def bytes_of_text(files: Sequence[Path]) -> int:
    """About how many bytes of text the files hold, by their sizes on the disk. Raises DataError."""
    return sum(_size(file) * (1 if file.suffix.lower() in _PLAIN else UNPACKED) for file in files)


def opened(path: Path, file: IO[bytes]) -> IO[bytes]:
    """What an open file holds, unpacked when its path ends in .xz or .gz. Neither closes the other."""
    if path.suffix.lower() == ".xz":
        return lzma.open(file)
    if path.suffix.lower() == ".gz":
        return io.BufferedReader(gzip.open(file))
    return file


def _documents(blocks: Iterator[str]) -> Iterator[str]:
    """Cut a text, given in blocks with LF line ends, at its separator lines and at MAX_DOCUMENT characters."""
    rest = ""
    for block in chain(blocks, ["\n"]):  # the last line may hold a separator and lack its line end
        rest += block
        if "<|endoftext|>" in rest:  # many times faster than the pattern over text without it
            *whole, rest = _SEPARATOR.split(rest)
            for text in whole:
                yield from _pieces(text, at_most=MAX_DOCUMENT)
        *full, rest = _pieces(rest, at_most=MAX_DOCUMENT)
        yield from full
    yield rest


def _pieces(text: str, at_most: int) -> Iterator[str]:
    """The text in pieces of at most so many characters, the last one what is left."""
    while len(text) > at_most:
        cuts = ((text.rfind(mark, at_most // 2, at_most), len(mark)) for mark in ("\n\n", "\n", " "))
        cut, skipped = next((found for found in cuts if found[0] > 0), (at_most, 0))
        yield text[:cut]
        text = text[cut + skipped :]
    yield text


def _blocks(stream: IO[bytes], name: str) -> Iterator[str]:
    """A byte stream as text with LF line ends, in blocks. Raises DataError for binary files and other encodings."""
    raw = stream.read(MAX_DOCUMENT + 1)
    _refuse_binary(raw, name)
    if len(raw) <= MAX_DOCUMENT:  # all of it: an old book may say that it is in Latin-1
        try:
            yield gutenberg.decode(raw)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        return
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    read = 0  # bytes decoded so far
    while raw:
        try:
            yield newlines.decode(decoder.decode(raw))
        except UnicodeDecodeError as error:
            at = read - len(decoder.getstate()[0]) + error.start  # counted from what the last block left over
            raise DataError(f"{name}: not UTF-8 at byte {at}; {CONVERT_IT}") from error
        read += len(raw)
        raw = stream.read(_BLOCK)
        _refuse_binary(raw, name)
    if decoder.getstate()[0]:
        raise DataError(f"{name}: its last character is cut short, at byte {read}; download or copy the file again")
    yield newlines.decode("", final=True)


def _refuse_binary(raw: bytes, name: str) -> None:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{name} is UTF-16, not UTF-8; convert it: iconv -f utf-16 -t utf-8 OLD > NEW")
    if b"\0" in raw:
        raise DataError(f"{name} is not a text file (it holds zero bytes); take it out, or unpack it first")


def _cleaned(raw: str, name: str) -> str:
    """The text as the model shall see it; empty, with a warning, where a book's frame cannot be told from the book."""
    try:
        return normalise(gutenberg.clean(raw))
    except Uncertain as error:
        warn_once(f"skipped {name}: {error}")
        return ""


@functools.cache
def warn_once(message: str) -> None:
    """A corpus is read several times in one run; what is left out of it is told at the first."""
    _log.warning(message)


def _streams(file: Path, packed: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    """The byte streams in an open file with their names: one, or of an archive one for each text, read in turn."""
    if file.name.lower().endswith(_TARS):
        with tarfile.open(fileobj=packed, mode="r|*") as tar:  # as a stream, so that members are never all in memory
            for member in tar:
                if member.isfile() and _is_text_member(member.name) and (stream := tar.extractfile(member)):
                    yield f"{file}/{member.name}", stream
    elif file.suffix.lower() == ".zip":
        with zipfile.ZipFile(packed) as archive:
            for info in archive.infolist():
                if info.is_dir() or not _is_text_member(info.filename):
                    continue
                if info.flag_bits & 1:
                    raise DataError(f"{file} is locked with a password; unpack it and name the folder")
                with archive.open(info) as unpacked:
                    yield f"{file}/{info.filename}", unpacked
    else:
        yield str(file), opened(file, packed)


def _is_text_member(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in _PLAIN and not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _below(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Every file below a folder that is not hidden. Links to folders are followed, but no folder is entered twice."""
    if (real := folder.resolve()) in seen:
        return
    seen.add(real)
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _below(path, seen)
        elif path.is_file():
            yield path


def reading_bar(files: Sequence[Path], purpose: str) -> "tqdm[Any]":
    """A progress bar over the bytes of files, as they are on the disk, and so with the time left. Raises DataError."""
    total = sum(map(_size, files))
    return progress_bar(total=total, description=purpose, unit="B", unit_scale=True)


def _size(file: Path) -> int:
    """Its bytes on the disk."""
    with explained(file):
        return file.stat().st_size


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the system or a decompressor says of a file or folder into a DataError of one line."""
    try:
        yield
    except _DAMAGED as error:
        raise DataError(f"{path} is damaged or cut short ({error}); download or copy it again") from error
    except NotImplementedError as error:  # zip files packed in some newer way
        raise DataError(f"{path} cannot be unpacked here ({error}); unpack it and name the folder") from error
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or error}; check its permissions, or leave it out"
        ) from error


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
