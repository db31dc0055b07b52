"""How many bytes a token stands for on held-out text: our vocabularies, and public ones.

    python -m benchmarks.compression --texts PATH... [--held-out benchmarks/held_out_books.txt] [--pairs PATH] [--json]

In: texts and pairs, as for LLM-BPE.py, and the names of the books to hold out.  Out: for each vocabulary the bytes per
token on held-out books and stories, and what it costs: the share of the `story` model that is its embedding.

Our vocabularies are learned from the texts that are not held out; one training gives them all, because the merges of a
smaller vocabulary are the first ones of a larger. The public ones are those that the package litellm carries (`pip
install --no-deps litellm`: it is not imported); where it is not installed, they are left out.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

import tiktoken
import tokenizers

from bpe import Tokenizer
from bpe.command import CommandParser, run_command, show
from data.documents import Document, Split, explained, read_texts
from data.errors import DataError
from data.layout import SPECIAL_TOKENS
from data.sources import pair_source, text_source
from model.config import preset

SIZES = {"qwen2": (4_096, 8_192, 16_384, 32_768, 50_257), "gpt2": (50_257,)}  # by split pattern; the last is GPT-2's
TIKTOKEN = {"p50k_base": "GPT-2, with 24 runs of blanks", "cl100k_base": "GPT-4", "o200k_base": "GPT-4o"}
HUGGING_FACE = {"anthropic_tokenizer.json": "Claude 2", "deepseek_tokenizer.json": "DeepSeek V3"}
MODEL = preset("story")

Vocabulary = tuple[str, int, Callable[[str], Sized]]  # name, size, and what gives the tokens of a text


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured of one vocabulary."""

    vocabulary: str
    size: int
    books: float  # bytes per token on held-out documents
    stories: float | None  # and on the stories of held-out pairs
    embedding: int  # parameters of the model's embedding with so many tokens
    share: float  # of all its parameters

    def row(self) -> str:
        """As a line of the table."""
        stories = "" if self.stories is None else f"{self.stories:.3f}"
        costs = f"{self.embedding / 1e6:>10.1f} M{self.share:>9.1%}"
        return f"{self.vocabulary:32}{self.size:>9,}{self.books:>9.3f}{stories:>9}{costs}\n"


HEADER = f"{'':32}{'tokens':>9}{'books':>9}{'stories':>9}{'embedding':>12}{'share':>9}\n"


def split_by_name(documents: Iterable[Document], held_out: Path) -> Iterator[tuple[Split, Document]]:
    """Hold out the documents whose files are listed in another file, one name a line; blank lines say nothing.

    Raises DataError when the file cannot be read or lists none, and at the end when one of the documents did not come.
    """
    with explained(held_out):
        names = {line.strip() for line in held_out.read_text(encoding="utf-8").splitlines()} - {""}
    if not names:
        raise DataError(f"{held_out} lists no text to hold out and measure on; write the names of some, one a line")
    missing = set(names)
    for document in documents:
        name = Path(document.name).name
        missing.discard(name)
        yield ("valid" if name in names else "train"), document
    if missing:
        raise DataError(
            f"{min(missing)} is listed in {held_out}, but not among the texts; give the texts it belongs to"
        )


def our_vocabularies(training_texts: Callable[[], Iterable[str]]) -> Iterator[Vocabulary]:
    """Of SIZES, as far as there is text enough. The texts are asked for once for each split pattern."""
    for pattern, sizes in SIZES.items():
        largest = Tokenizer.train(
            training_texts(), vocab_size=max(sizes), pattern=pattern, special_tokens=SPECIAL_TOKENS, shrink=True
        )
        for size in sorted({min(size, largest.vocab_size) for size in sizes}):
            merges = largest.vocabulary.merges[: size - largest.vocab_size or None]
            tok = Tokenizer(replace(largest.vocabulary, merges=merges))
            yield f"ours, {pattern} pattern", size, tok.encode_to_array


def public_vocabularies() -> Iterator[Vocabulary]:
    """Those that an installed litellm carries."""
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent / "litellm_core_utils" / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)  # the files have the names that tiktoken gives to its downloads
    for file, name in TIKTOKEN.items():
        encoding = tiktoken.get_encoding(file)
        yield name, encoding.n_vocab, encoding.encode_ordinary
    for file, name in HUGGING_FACE.items():
        tok = tokenizers.Tokenizer.from_file(str(folder / file))
        yield name, tok.get_vocab_size(), partial(tok.encode, add_special_tokens=False)


def bytes_per_token(texts: Iterable[str], tokens: Callable[[str], Sized]) -> float:
    """Of all texts together."""
    sizes = [(len(text.encode()), len(tokens(text))) for text in texts]
    return sum(size for size, _ in sizes) / sum(number for _, number in sizes)


def measure(texts: list[Path], held_out: Path | None, pairs: Path | None) -> Iterator[Figures]:
    """The figures of every vocabulary. Raises a UserError for what the user can put right."""
    books: dict[str, str] = {}  # that are held out

    def training_texts() -> Iterator[str]:
        documents = (
            split_by_name(read_texts(texts), held_out) if held_out else text_source(texts, None, Path()).examples()
        )
        for split, document in documents:
            if split == "train":
                yield document.text
            else:
                books[document.name] = document.text

    examples = pair_source(pairs, None, Path()).examples() if pairs else ()
    stories = [pair.story for _, pair in takewhile(lambda example: example[0] == "valid", examples)]  # they come first
    for source in (our_vocabularies(training_texts), public_vocabularies()):
        for name, size, tokens in source:
            embedding = size * MODEL.width
            yield Figures(
                vocabulary=name,
                size=size,
                books=bytes_per_token(books.values(), tokens),
                stories=bytes_per_token(stories, tokens) if stories else None,
                embedding=embedding,
                share=embedding / replace(MODEL, vocab_size=size).num_parameters,
            )


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.compression",
        "Bytes per token on held-out text.",
        "  python -m benchmarks.compression --texts $BOOKS --held-out benchmarks/held_out_books.txt --pairs $PAIRS\n",
    )
    parser.add_argument("--texts", nargs="+", type=Path, required=True, help="folders, files or archives of plain text")
    parser.add_argument(
        "--held-out", type=Path, metavar="FILE", help="names of the texts to hold out (default: as training does)"
    )
    parser.add_argument("--pairs", type=Path, metavar="PATH", help="pairs, for their held-out stories")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each vocabulary")
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print. Raises a UserError for what the user can put right."""
    if not args.json:
        show(HEADER)
    for figures in measure(args.texts, args.held_out, args.pairs):
        show(json.dumps(asdict(figures)) + "\n" if args.json else figures.row())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.compression", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
