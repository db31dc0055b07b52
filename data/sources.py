"""What a run learns from: the user's own files, or a known data set.

In: what was asked for on the command line.  Out: a TextSource (documents to pretrain on) or a PairSource (prompts with
stories to fine-tune on), each a stream of examples marked "train" or "valid", the same each time it is read.

    gutenberg        texts           about 100 Project Gutenberg books (data/gutenberg_books.py)
    tinystories      texts           data/tiny_stories.py
    writingprompts   pairs           data/writing_prompts.py
    sample           texts, pairs    data/sample/, written for this project: no download

Where a file is named train, names are taken for splits: what is named valid is held out, what is named test is left
alone, and the rest is trained on. Otherwise a name says nothing ("The Acid Test"), and data/splits.py makes a split.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from bpe.files import sha256_of
from data import gutenberg_books, tiny_stories, writing_prompts
from data.documents import Document, Pair, Split, read_texts, text_files
from data.download import Unreachable
from data.errors import DataError
from data.splits import keep_documents_apart, keep_pairs_apart, split_documents, split_pairs

SAMPLE = Path(__file__).parent / "sample"
TEXTS = ("gutenberg", "tinystories", "sample")
PAIRS = ("writingprompts", "sample")

RULES = 3  # of cleaning and splitting: raise it with every change that makes other examples of the same files

_PROMPT = "PROMPT: "
_SPLIT_NAMES = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}
_NAMED_SPLIT = re.compile(rf"(?:^|[-_])({'|'.join(_SPLIT_NAMES)})(?:[-_]|$)", re.IGNORECASE)

Example = TypeVar("Example", Document, Pair)


@dataclass(frozen=True)
class Source(Generic[Example]):
    """A name to print, the files that the examples come from, and how those are read."""

    name: str
    files: tuple[Path, ...]
    read: Callable[[str], Iterator[tuple[Split, Example]]]

    def examples(self, purpose: str = "reading") -> Iterator[tuple[Split, Example]]:
        """Every example with its split, in the same order each time; a progress bar says what they are read for.

        Raises DataError for files that cannot be used.
        """
        return self.read(purpose)

    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with RULES and with the name or the bytes of any file."""
        lines = [f"rules {RULES}\n", *sorted(f"{sha256_of(file)}  {file.name}\n" for file in self.files)]
        return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()


TextSource = Source[Document]
PairSource = Source[Pair]


def text_source(texts: Sequence[Path] | None, dataset: str | None, downloads: Path) -> TextSource:
    """The texts at these paths, or of a known data set (gutenberg where neither is given), downloaded now if need be.

    Raises DataError when both are given, for an unknown data set or one without texts, for paths that hold no text
    files, and when a download is needed and there is no network.
    """
    _refuse_both(texts, dataset, "texts")
    if texts:
        return _source_of_files(_listed(texts), text_files(texts))
    name = _known(dataset or "gutenberg", TEXTS, "texts")
    if name == "sample":
        return TextSource(name, _sample_files(), lambda _: _sample_texts())
    try:
        if name == "gutenberg":
            return _to_be_split(name, gutenberg_books.download(downloads / name))
        files = tiny_stories.download(downloads / name)
    except Unreachable as error:
        raise _with_ways_on(error, "--texts") from error
    return _given_split(name, [files["train"]], [files["valid"]])


def pair_source(pairs: Path | None, dataset: str | None, downloads: Path) -> PairSource:
    """The pairs in this folder, or of a known data set (writingprompts where neither is given), downloaded if need be.

    Raises DataError when both are given, for an unknown data set or one without pairs, for a folder that holds none,
    and when a download is needed and there is no network.
    """
    _refuse_both(pairs, dataset, "pairs")
    if pairs:
        return _source_of_pairs(str(pairs), writing_prompts.find_pair_files(pairs))
    name = _known(dataset or "writingprompts", PAIRS, "pairs")
    if name == "sample":
        return PairSource(name, _sample_files(), lambda _: split_pairs(sample_pairs))
    try:
        folder = writing_prompts.download(downloads / name)
    except Unreachable as error:
        raise _with_ways_on(error, "--pairs") from error
    return _source_of_pairs(name, writing_prompts.find_pair_files(folder))


def sample_pairs() -> Iterator[Pair]:
    """The prompts and stories of data/sample, in the files' order."""
    for document in read_texts(_sample_files()):
        first, _, story = document.text.partition("\n\n")
        if not first.startswith(_PROMPT) or "\n" in first or not story:
            raise DataError(
                f"{document.name} does not start with '{_PROMPT}...', a blank line and a story; mend the record"
            )
        yield Pair(first.removeprefix(_PROMPT), story)


def _sample_texts() -> Iterator[tuple[Split, Document]]:
    """The sample's stories, split as its pairs are, so that no story pretrained on is held out from fine-tuning."""
    for number, (split, pair) in enumerate(split_pairs(sample_pairs), start=1):
        yield split, Document(f"sample #{number}", pair.story)


def _sample_files() -> tuple[Path, ...]:
    return tuple(text_files([SAMPLE]))


def _source_of_files(name: str, files: Sequence[Path]) -> TextSource:
    """The split that the files' names give, where one is named train, else one of our own."""
    by_split: dict[str, list[Path]] = {"train": [], "valid": [], "test": [], "": []}
    for file in files:
        match = _NAMED_SPLIT.search(file.name.split(".")[0])
        by_split[_SPLIT_NAMES[match[1].lower()] if match else ""].append(file)
    if not by_split["train"]:
        return _to_be_split(name, files)
    train = [*by_split["train"], *by_split[""]]
    return _given_split(name, train, by_split["valid"]) if by_split["valid"] else _to_be_split(name, train)


def _to_be_split(name: str, files: Sequence[Path]) -> TextSource:
    return TextSource(name, tuple(files), lambda purpose: split_documents(read_texts(files, purpose)))


def _given_split(name: str, train: Sequence[Path], valid: Sequence[Path]) -> TextSource:
    def examples(purpose: str) -> Iterator[tuple[Split, Document]]:
        return keep_documents_apart(train=read_texts(train, purpose), valid=read_texts(valid, purpose))

    return TextSource(name, (*train, *valid), examples)


def _source_of_pairs(name: str, files: dict[Split, tuple[Path, Path]]) -> PairSource:
    def examples(purpose: str) -> Iterator[tuple[Split, Pair]]:
        def pairs_of(split: Split) -> Iterator[Pair]:
            return writing_prompts.read_pairs(*files[split], purpose)

        if "valid" in files:
            return keep_pairs_apart(pairs_of("train"), pairs_of("valid"))
        return split_pairs(lambda: pairs_of("train"))

    return PairSource(name, tuple(file for both in files.values() for file in both), examples)


def _known(dataset: str, those: Sequence[str], what: Literal["texts", "pairs"]) -> str:
    if dataset in those:
        return dataset
    if dataset in {*TEXTS, *PAIRS}:
        raise DataError(f"data set {dataset} holds no {what}; these do: {', '.join(those)}")
    raise DataError(f"no data set is called {dataset!r}; with {what} there are: {', '.join(those)}")


def _refuse_both(paths: object, dataset: str | None, what: str) -> None:
    if paths and dataset:
        raise DataError(f"--{what} and --dataset were both given; which one is meant? Leave the other out")


def _with_ways_on(error: Unreachable, option: str) -> DataError:
    return DataError(f"{error}; or without a network: {option} PATH for your own files, --dataset sample for ours")


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
