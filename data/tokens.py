"""Token files: a corpus as ids on disk, read by memory-mapping.

In: documents or pairs as a stream, and a tokenizer.  Out: two files for each split,

    NAME-train.bin     HEADER | the ids of all documents, end to end | padding to 8 bytes | DOCUMENT for each document
    NAME-train.json    kind, dtype, counts, fingerprints of tokenizer and source, SHA-256 of the .bin

everything little-endian. How a document or pair stands in ids is data/layout.py's, encoding them is data/encoding.py's.
"""

import contextlib
import json
import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from bpe import Tokenizer
from bpe.block_encoder import Ids
from bpe.files import atomic_write, sha256_of, write_json
from data.documents import Split
from data.encoding import Encoded, Example, encoded
from data.errors import DataError

Kind = Literal["documents", "pairs"]

SPLITS: tuple[Split, ...] = get_args(Split)

MAGIC = b"LLMBPEid"
VERSION = 1
HEADER = np.dtype([("magic", "S8"), ("version", "<u4"), ("id_bytes", "<u4"), ("tokens", "<u8"), ("documents", "<u8")])
DOCUMENT = np.dtype(
    [
        ("start", "<i8"),  # index of its first token
        ("header", "<i8"),  # tokens at its start that are read but never scored and head every window: a pair's prompt
        ("bytes", "<i8"),  # UTF-8 bytes of the text or the story
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What NAME.json says of NAME.bin."""

    version: int
    kind: Kind
    dtype: str  # of an id: uint16 or uint32
    documents: int
    tokens: int
    bytes: int  # UTF-8 bytes of all texts or stories
    tokenizer: str  # Tokenizer.fingerprint
    source: str  # fingerprint of the text the file was made from
    sha256: str  # of NAME.bin

    def save(self, path: Path) -> None:
        """Write it as JSON. Raises FileError."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back. Raises DataError for a file that is missing, damaged, or of another kind."""
        try:
            manifest = cls(**json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}; prepare the text again") from error
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{path} does not describe a token file; delete it and prepare the text again") from error
        sizes = (manifest.documents, manifest.tokens, manifest.bytes)
        known = manifest.kind in get_args(Kind) and manifest.dtype in ("uint16", "uint32")
        if not known or not all(isinstance(size, int) for size in sizes):
            raise DataError(f"{path} does not describe a token file; delete it and prepare the text again")
        if manifest.version != VERSION:
            raise DataError(
                f"{path} has version {manifest.version} of the format, this program reads {VERSION}; "
                "delete it and prepare the text again"
            )
        return manifest


class TokenFile:
    """An open token file; nothing of it is in memory but what is being used.

    tokens: every id, in order, uint16 or uint32.  starts: int64, (documents + 1,), document i is
    tokens[starts[i] : starts[i + 1]].  headers: int64, (documents,), the first so many tokens of each document are
    never scored and head each of its windows; 0 for plain documents.  num_bytes: int64, (documents,), UTF-8 bytes of
    the text, of pairs those of the story.
    """

    def __init__(self, path: Path, manifest: Manifest, tokens: Ids, table: npt.NDArray[np.void]) -> None:
        self.path = path
        self.manifest = manifest
        self.tokens = tokens
        self.starts: npt.NDArray[np.int64] = np.append(table["start"], len(tokens)).astype(np.int64)
        self.headers: npt.NDArray[np.int64] = table["header"].astype(np.int64)
        self.num_bytes: npt.NDArray[np.int64] = table["bytes"].astype(np.int64)

    @classmethod
    def open(cls, path: Path, tok: Tokenizer | None = None) -> Self:
        """Open NAME.bin, check it whole against NAME.json, and both against `tok` where one is given.

        Raises DataError, one line, for a file that is missing, truncated, changed, foreign, or of another tokenizer.
        """
        manifest = Manifest.load(path.with_suffix(".json"))
        try:
            header, tokens, table = _map(path)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} is not a whole token file ({error}); delete it and prepare the text again"
            ) from error
        said = (manifest.version, np.dtype(manifest.dtype).itemsize, manifest.tokens, manifest.documents)
        if tuple(header.tolist())[1:] != said or sha256_of(path) != manifest.sha256:
            raise DataError(
                f"{path} is not the file that {path.with_suffix('.json').name} describes: it was changed since it was "
                "written; delete both and prepare the text again"
            )
        if tok is not None and tok.fingerprint != manifest.tokenizer:
            raise DataError(
                f"{path} was made with tokenizer {manifest.tokenizer}, this one is {tok.fingerprint}: the same ids "
                "would mean other text; use that tokenizer, or prepare the text again"
            )
        return cls(path, manifest, tokens, table)

    @property
    def kind(self) -> Kind:
        """Whether the file holds plain documents or (prompt, story) pairs."""
        return self.manifest.kind

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents, special tokens counted."""
        return len(self.tokens)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each document, int64, (documents,)."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.headers)

    def document(self, i: int) -> Ids:
        """The tokens of document i: a view into the file."""
        return self.tokens[self.starts[i] : self.starts[i + 1]]


def prepared(
    examples: Callable[[str], Iterable[Example]], tok: Tokenizer, folder: Path, name: str, source: str
) -> dict[Split, TokenFile]:
    """The token files of a source: those in `folder` if they fit, else new ones made from its examples.

    They fit when they are whole and were made by this tokenizer from the text with the fingerprint `source`. examples:
    gives the source's, with a progress bar that says what for. Raises what `write_token_files` raises.
    """
    paths = {split: token_file_path(folder, name, split) for split in SPLITS}
    with contextlib.suppress(DataError):
        # Only manifests are read of files that do not fit: Windows replaces no file that is mapped.
        if all(Manifest.load(path.with_suffix(".json")).source == source for path in paths.values()):
            return {split: TokenFile.open(path, tok) for split, path in paths.items()}
    return write_token_files(examples("encoding"), tok, folder, name, source=source)


def write_token_files(
    examples: Iterable[Example],
    tok: Tokenizer,
    folder: Path,
    name: str,
    *,
    source: str,
    splits: Sequence[Split] = SPLITS,
    workers: int | None = None,
) -> dict[Split, TokenFile]:
    """Encode a stream of documents, or of pairs, into a token file for each split, and open them.

    source: the fingerprint of the text, to know it again by. splits: examples of another split are left out; evaluation
    needs no training text. workers: as `encoded` takes them.
    Some megabytes of examples are in memory at a time, and 24 bytes for each. Files of before stay until the new ones
    are whole; a stop while these take their places leaves files that do not open, and are prepared again.
    Raises DataError when a split has no text, FileError when the files cannot be written, BPEError for a text that is
    not Unicode.
    """
    wanted = (example for example in examples if example[0] in splits)
    paths = {split: token_file_path(folder, name, split) for split in splits}
    with contextlib.ExitStack() as stack:
        writers = {
            split: _Writer(stack.enter_context(atomic_write(paths[split], binary=True)), tok) for split in splits
        }
        stream = stack.enter_context(contextlib.closing(encoded(wanted, tok, workers)))
        for example in stream:
            writers[example.split].add(example)
        for split, writer in writers.items():
            if not writer.table:
                raise DataError(_nothing_for(split))
            writer.finish()
    for split, writer in writers.items():  # the manifests last: without its own, a .bin counts for nothing
        writer.manifest(source, sha256_of(paths[split])).save(paths[split].with_suffix(".json"))
    return {split: TokenFile.open(path, tok) for split, path in paths.items()}


class _Writer:
    """Writes one .bin front to back: room for the header, the ids, the table, and at last the header."""

    def __init__(self, file: IO[bytes], tok: Tokenizer) -> None:
        self.file = file
        self.tok = tok
        self.kind: Kind = "documents"
        self.num_tokens = 0
        self.num_bytes = 0
        self.table = array("q")  # start, header, bytes of each document in turn
        file.write(bytes(HEADER.itemsize))

    def add(self, example: Encoded) -> None:
        self.kind = "pairs" if example.header else "documents"
        self.table.extend((self.num_tokens, example.header, example.num_bytes))
        self.file.write(example.tokens.astype(self.tok.dtype.newbyteorder("<"), copy=False).data)
        self.num_tokens += len(example.tokens)
        self.num_bytes += example.num_bytes

    @property
    def num_documents(self) -> int:
        return len(self.table) * self.table.itemsize // DOCUMENT.itemsize

    def finish(self) -> None:
        """Complete the file and bring it to the disk, so that no later step but a rename can fail."""
        id_bytes = self.tok.dtype.itemsize
        self.file.write(bytes(table_offset(self.num_tokens * id_bytes) - self.file.tell()))
        self.file.write(np.array(self.table, "<i8").data)
        self.file.seek(0)
        self.file.write(np.array((MAGIC, VERSION, id_bytes, self.num_tokens, self.num_documents), HEADER).tobytes())
        self.file.flush()
        os.fsync(self.file.fileno())

    def manifest(self, source: str, sha256: str) -> Manifest:
        return Manifest(
            version=VERSION,
            kind=self.kind,
            dtype=self.tok.dtype.name,
            documents=self.num_documents,
            tokens=self.num_tokens,
            bytes=self.num_bytes,
            tokenizer=self.tok.fingerprint,
            source=source,
            sha256=sha256,
        )


def _nothing_for(split: Split) -> str:
    if split == "train":
        return "there is no text to train on; give folders or files with text in them"
    return (
        "there is no text to hold out, and without it nothing tells how good a model is; give more text: several "
        "documents, or one of several paragraphs"
    )


def token_file_path(folder: Path, name: str, split: Split) -> Path:
    """Where the token file of a split is; its manifest has the suffix .json."""
    return folder / f"{name}-{split}.bin"


def _map(path: Path) -> tuple[npt.NDArray[np.void], Ids, npt.NDArray[np.void]]:
    """The header, the ids and the table of documents. Raises ValueError or OSError when the file does not hold them."""
    size = path.stat().st_size
    if size < HEADER.itemsize:
        raise ValueError("it is too short")
    header = np.fromfile(path, HEADER, 1)[0]
    _, version, id_bytes, num_tokens, num_documents = header.tolist()
    if header["magic"] != MAGIC or version != VERSION or id_bytes not in (2, 4):
        raise ValueError("it does not start as one")
    table_at = table_offset(num_tokens * id_bytes)
    if size != table_at + num_documents * DOCUMENT.itemsize or not num_documents:
        raise ValueError(f"it has {size:,} bytes, its header promises {table_at + num_documents * DOCUMENT.itemsize:,}")
    tokens = np.memmap(path, f"<u{id_bytes}", "r", HEADER.itemsize, (num_tokens,))
    return header, tokens, np.fromfile(path, DOCUMENT, offset=table_at)


def table_offset(bytes_of_ids: int) -> int:
    """Where the table of documents starts: behind the ids, at a multiple of 8 bytes."""
    return -(-(HEADER.itemsize + bytes_of_ids) // 8) * 8
