"""WritingPrompts: what people on Reddit wrote when given a prompt (Fan, Lewis and Dauphin 2018, arXiv:1805.04833).

In: a split's two files with equally many lines, `.wp_source` (prompts) and `.wp_target` (stories), plain or .xz.
Out: pairs in ordinary spelling, the tag (`[ WP ]`) taken off the prompt and kept beside it, `<newline>` a line break.

Marks of emphasis (*word*, **word**, _word_) are taken off.

Taken off a story, again and again, from its first and last lines only:
    blank lines and scene breaks; lines that start with "edit:" or its like; lines of at most MAX_NOTE characters that
    thank for reading, name a subreddit (r/...), link somewhere, or announce another part.
Left out are pairs
    of a thread that asks for no story or shows what its text does not (tags OT, MOD, IP, MP);
    whose prompt has no words; whose story is a moderator's or deleted; whose story has fewer than MIN_WORDS words.
"""

import re
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import count, zip_longest
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, get_args

from bpe.files import atomic_write
from data.clean import normalise
from data.detokenise import detokenise
from data.documents import MAX_DOCUMENT, Pair, Split, explained, opened, reading_bar, warn_once
from data.download import Downloader
from data.errors import CONVERT_IT, DataError

if TYPE_CHECKING:
    from tqdm import tqdm

ADDRESS = "https://dl.fbaipublicfiles.com/fairseq/data/writingPrompts.tar.gz"
MIN_WORDS = 50
MAX_NOTE = 400  # characters

_FILES = tuple(f"{split}.{kind}" for split in get_args(Split) for kind in ("wp_source", "wp_target"))
_TAG = re.compile(r"^\W*?\[ ?([A-Za-z]{2,4}) ?\][ :.-]*|\s*\[ ?([A-Za-z]{2,4}) ?\]$")
_NO_STORY_TAGS = {"OT", "MOD", "IP", "MP"}
_EMPHASIS = re.compile(r"(?<![*\w])(\*{1,3}|_)(?=[^\s*_])([^*\n]*?[^*\s]) ?\1(?![*\w])")
_BREAK = re.compile(r"[\s*_#~=—-]*")
_EDIT = re.compile(r"\W*edit(?:ed)?[ \d/.]*(?:$|[:—-]|for )", re.IGNORECASE)
_NOTE = re.compile(
    r"\bthank(?:s| you)(?: \w+){0,4} for (?:the |your )?read|(?:^|[\s(/\[])r/\w{3,}|https?://|\bwww\.|^\W*tl;? ?dr\b"
    r"|^\W*(?:to be continued|continued? (?:in|below)|part (?:\d+|two|three) ?(?:/ ?\d|in |below|here|coming))",
    re.IGNORECASE,
)
_MODERATOR = re.compile(r"\W*(?:off-topic discussion|this (?:submission|post|comment) has been removed)", re.IGNORECASE)


def download(folder: Path, *, address: str = ADDRESS, downloader: Downloader | None = None) -> Path:
    """The folder with the data set's files, fetched and unpacked below `folder` where they are not there yet.

    Says on stderr how much that is; unpacked files are taken as they are. Raises Unreachable when there is no network
    and no earlier download, and DataError for an archive that is damaged or was changed since.
    """
    unpacked = folder / "unpacked"
    if all((unpacked / name).is_file() for name in _FILES):
        return unpacked
    archive = folder / "writingPrompts.tar.gz"
    if not archive.exists():
        print(f"WritingPrompts: 370 MB to fetch into {folder}, once only; a stopped download goes on", file=sys.stderr)
    (downloader or Downloader()).fetch(address, archive)
    with explained(archive), tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            name = PurePosixPath(member.name).name  # never the path, which could lead out of the folder
            if name in _FILES and (stream := tar.extractfile(member)):
                with atomic_write(unpacked / name, binary=True) as file:
                    shutil.copyfileobj(stream, file)
    return unpacked


def find_pair_files(folder: Path) -> dict[Split, tuple[Path, Path]]:
    """The source and target file of each split in a folder: "train", and "valid" where there is one.

    Raises DataError when it is no folder, when train is missing, and when a source or target lacks the other.
    """
    found: dict[Split, tuple[Path, Path]] = {}
    with explained(folder):
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; name the one that holds train.wp_source and train.wp_target")
        for split in get_args(Split):
            source, target = (_plain_or_packed(folder / f"{split}.wp_{kind}") for kind in ("source", "target"))
            if source and target:
                found[split] = source, target
            elif source or target:
                raise DataError(f"{source or target} has no other half; put .wp_source and .wp_target into one folder")
    if "train" not in found:
        raise DataError(f"no train.wp_source and train.wp_target (plain or .xz) in {folder}; name the folder with both")
    return found


def read_pairs(source: Path, target: Path, purpose: str = "reading") -> Iterator[Pair]:
    """The pairs of two files whose lines belong together, cleaned; how many were left out, and why, is warned of, once.

    purpose: what a progress bar says of it. Raises DataError when a file is empty, cannot be read or is not text, when
    one has more lines than the other, and when no pair is left.
    """
    left_out = Counter[str]()
    lines = 0
    for number, (prompt, story) in enumerate(_lines_of_both(source, target, purpose), start=1):
        if prompt is None or story is None:
            short, long = (source, target) if prompt is None else (target, source)
            raise DataError(
                f"{short} has {number - 1:,} lines and {long} more, but line n of both is one pair; get both again"
            )
        lines = number
        pair = pair_of(prompt, story)
        if isinstance(pair, Pair):
            yield pair
        else:
            left_out[pair] += 1
    if not lines:
        raise DataError(f"{source} and {target} are empty; get them again, or name another folder")
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())
    if left_out.total() == lines:
        raise DataError(
            f"no pair of {source} and {target} can be used ({reasons}); give others, or see if the two are swapped"
        )
    if left_out:
        warn_once(f"{source.name}: {left_out.total():,} of {lines:,} pairs left out ({reasons})")


def pair_of(source_line: str, target_line: str) -> Pair | str:
    """The cleaned pair of a prompt's line and its story's line, or in some words the reason to leave it out."""
    prompt, tag = _prompt_and_tag(normalise(source_line.replace("<newline>", " ")))
    story = normalise(without_notes(_in_ordinary_spelling(target_line)))
    if tag in _NO_STORY_TAGS:
        return "in threads that ask for no story"
    if not re.search(r"\w", prompt):
        return "with no words in the prompt"
    if _MODERATOR.match(story):
        return "by moderators"
    if len(story.split()) < MIN_WORDS:
        return f"with stories under {MIN_WORDS} words"
    return Pair(prompt, story, tag, target_line)


def beginning_of_line(target_line: str, words: int) -> str:
    """The first whitespace words of a story's line, `<newline>` counted as one, as a story; every word is kept."""
    return normalise(_in_ordinary_spelling(" ".join(target_line.split()[:words])))


def _in_ordinary_spelling(target_line: str) -> str:
    """A story's line without marks of emphasis and of its tokenizer."""
    story = normalise(re.sub(r" *<newline> *", "\n", target_line))
    return detokenise(_EMPHASIS.sub(r"\2", story))


def without_notes(story: str) -> str:
    """The story without what its writer said to readers before and after it, by the rules at the top of this file."""
    lines = story.split("\n")
    while lines and _is_note(lines[-1]):
        lines.pop()
    first = next((at for at, line in enumerate(lines) if not _is_note(line)), 0)
    return "\n".join(lines[first:])


def _is_note(line: str) -> bool:
    return bool(_BREAK.fullmatch(line) or _EDIT.match(line) or (len(line) <= MAX_NOTE and _NOTE.search(line)))


def _prompt_and_tag(line: str) -> tuple[str, str]:
    """A prompt's line without the tags at its ends, in ordinary spelling, and the first of the tags in capitals."""
    tag = ""
    while match := _TAG.search(line):
        tag = tag or (match[1] or match[2]).upper()
        line = line[: match.start()] + line[match.end() :]
    return normalise(detokenise(" ".join(line.split()))), tag


def _lines_of_both(source: Path, target: Path, purpose: str) -> Iterator[tuple[str | None, str | None]]:
    """The lines of two files side by side, None where one has no more, with a progress bar."""
    with reading_bar([source, target], purpose) as bar:
        yield from zip_longest(_lines(source, bar), _lines(target, bar))


def _lines(path: Path, bar: "tqdm[Any]") -> Iterator[str]:
    """The lines of a UTF-8 file, plain or packed, without their ends; only LF ends a line."""
    with explained(path), path.open("rb") as packed:
        file = opened(path, packed)
        read = 0
        for number in count(1):
            raw = file.readline(MAX_DOCUMENT)
            if not raw:
                return
            if len(raw) == MAX_DOCUMENT:
                raise DataError(f"{path}: line {number:,} is longer than {MAX_DOCUMENT:,} bytes; are these pairs?")
            if b"\0" in raw:
                raise DataError(f"{path} is not a text file (zero byte in line {number:,}); get it again")
            try:
                yield raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}: line {number:,} is not UTF-8; {CONVERT_IT}") from error
            bar.update(packed.tell() - read)
            read = packed.tell()


def _plain_or_packed(path: Path) -> Path | None:
    return next((file for file in (path, path.with_name(f"{path.name}.xz")) if file.is_file()), None)
