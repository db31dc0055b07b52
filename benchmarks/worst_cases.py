"""What is hard for a tokenizer: text without words. Does ten times the text take ten times as long, or a hundred times?

    python -m benchmarks.worst_cases [--megabytes 10] [--repeats 5] [--json]

In: nothing; the texts are made here.  Out: for each kind of text the processor seconds that training a vocabulary of
1,024 and encoding take for that much and for a tenth of it, the ratios of the two, and the peak of resident memory.

Each measurement runs in a process of its own, and the least of several counts: what other programs do to the caches
and to memory lengthens the large ones more. That the ids are tiktoken's is checked on the beginning of the text.
"""

import argparse
import json
import math
import random
import string
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context

from benchmarks.bpe_tasks import Disagreement, as_tiktoken
from benchmarks.prepare import peak_memory
from bpe import Tokenizer
from bpe.command import CommandParser, UsageError, positive_int, run_command, show

MB = 1_000_000
VOCAB_SIZE = 1_024
SMALLEST = 0.01  # MB: the tenth of it still takes some time
CHECKED = 100_000  # bytes on which the ids are held against tiktoken's

CHINESE = [chr(0x4E00 + number) for number in range(3_000)]
EMOJI = [*"👩👨👧👦🚀🎨🌈🏽🇩🇪", "❤\ufe0f", "🏳\ufe0f"]
WORDS = {  # letters, and what follows a word
    "no blank": ([*string.ascii_letters], [""]),
    "Chinese": (CHINESE, ["", "", "", "", "", "", "，", "。", "。\n"]),
    "emoji": (EMOJI, ["\u200d", ""]),
}
KINDS = ("one letter", "random bytes", *WORDS)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One text of one size."""

    train: float  # processor seconds
    encode: float  # the first time, when nothing is known
    tokens: int
    peak_mb: float  # resident, the text and Python itself included


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One kind of text."""

    text: str
    small: Measured  # of a tenth of the size that was asked for
    large: Measured

    @property
    def ratios(self) -> tuple[float, float]:
        """How many times longer the large text takes, to train on and to encode."""
        return self.large.train / self.small.train, self.large.encode / self.small.encode

    def row(self) -> str:
        """As a line of the table."""
        columns = zip((self.large.train, self.large.encode), self.ratios, strict=True)
        return (
            f"{self.text:14}"
            + "".join(f"{seconds:>12.2f}{ratio:>8.1f}" for seconds, ratio in columns)
            + f"{self.large.peak_mb:>12,.0f}\n"
        )


HEADER = f"{'':14}{'train s':>12}{'ratio':>8}{'encode s':>12}{'ratio':>8}{'peak MB':>12}\n"


def text_of(kind: str, num_bytes: int) -> str:
    """A text of a kind, of about so many bytes of UTF-8 (random bytes: half as many again)."""
    chance = random.Random(kind)
    if kind == "one letter":
        return "a" * num_bytes
    if kind == "random bytes":
        return chance.randbytes(num_bytes).decode("latin-1")
    letters, ends = WORDS[kind]
    words = ["".join(chance.choices(letters, k=chance.randint(1, 6))) + chance.choice(ends) for _ in range(5_000)]
    often = [1 / rank for rank in range(1, len(words) + 1)]
    text = "".join(chance.choices(words, often, k=num_bytes // 2))
    return text.encode()[:num_bytes].decode(errors="ignore")


def measure(kind: str, num_bytes: int) -> Measured:
    """Train on a text and encode it. Raises Disagreement when ids are not tiktoken's, or do not give the text back."""
    text = text_of(kind, num_bytes)
    start = time.process_time()
    tok = Tokenizer.train([text], vocab_size=VOCAB_SIZE, workers=1, shrink=True)
    trained = time.process_time()
    ids = tok.encode_to_array(text)
    encoded = time.process_time()
    peak_mb = round(peak_memory() / MB)
    part = text.encode()[:CHECKED].decode(errors="ignore")
    if tok.encode(part) != as_tiktoken(tok).encode_ordinary(part) or tok.decode(ids) != text:
        raise Disagreement(f"{kind}: ids are not tiktoken's, or not the text's; this is a bug, please report it")
    return Measured(
        train=round(trained - start, 6),
        encode=round(encoded - trained, 6),
        tokens=len(ids),
        peak_mb=peak_mb,
    )


def compared(num_bytes: int, repeats: int) -> Iterator[Figures]:
    """Every kind of text, small and large. Each time is the least of several, measured in turn in fresh processes."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        for kind in KINDS:
            rounds = [
                [fresh.submit(measure, kind, size).result() for size in (num_bytes // 10, num_bytes)]
                for _ in range(repeats)
            ]
            small, large = map(least, zip(*rounds, strict=True))
            yield Figures(text=kind, small=small, large=large)


def least(measured: Sequence[Measured]) -> Measured:
    """The least of each figure."""
    return Measured(**{name: min(getattr(one, name) for one in measured) for name in Measured.__annotations__})


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.worst_cases",
        "Time and memory that text without words takes.",
        "  python -m benchmarks.worst_cases --megabytes 10\n",
    )
    parser.add_argument("--megabytes", type=float, default=10, metavar="N", help="of each large text (default 10)")
    parser.add_argument("--repeats", type=positive_int, default=5, metavar="N", help="of each measurement (default 5)")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each kind of text")
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print. Raises Disagreement, and UsageError for a size that tells nothing."""
    if not SMALLEST <= args.megabytes < math.inf:
        raise UsageError(f"--megabytes {args.megabytes:g} cannot be measured; give a number from {SMALLEST} on")
    if not args.json:
        show(HEADER)
    for figures in compared(int(args.megabytes * MB), args.repeats):
        show(json.dumps(asdict(figures)) + "\n" if args.json else figures.row())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.worst_cases", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
