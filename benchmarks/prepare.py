"""How fast a corpus becomes token files, and how much memory that takes.

    python -m benchmarks.prepare --texts PATH... [--vocab-size 16384] [--json]

In: texts, as for LLM-BPE.py.  Out: seconds and MB/s of training the tokenizer and of encoding, tokens, and the most
memory that was resident at one moment. What is written goes to a temporary folder.
"""

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bpe import Tokenizer
from bpe.command import CommandParser, run_command, show
from data.layout import SPECIAL_TOKENS
from data.sources import text_source
from data.tokens import write_token_files


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured; MB are 10^6 bytes."""

    text_mb: float  # UTF-8 of the cleaned text
    documents: int
    tokens: int
    vocab_size: int
    tokenizer_seconds: float  # reading, cleaning, counting words, merging
    encoding_seconds: float  # reading, cleaning, encoding, writing
    encoding_mb_per_second: float
    peak_resident_mb: float  # over everything above, Python, its libraries and other processes included


def peak_memory() -> int:
    """The most bytes that this process had resident, and those it started that still run; Linux only, elsewhere 0."""
    processes = ["self"]
    for children in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            processes += children.read_text().split()
    return sum(map(_peak_memory_of, processes))


def _peak_memory_of(pid: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc", pid, "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def measure(texts: list[Path], vocab_size: int) -> Figures:
    """Prepare `texts` as a run does: a tokenizer from the training documents, then the token files of both splits."""
    source = text_source(texts, None, Path("downloads"))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        training = (document.text for split, document in source.examples() if split == "train")
        tok = Tokenizer.train(training, vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, shrink=True)
        trained = time.perf_counter()
        files = write_token_files(source.examples(), tok, Path(folder), "texts", source="").values()
        written = time.perf_counter()
        text_mb = sum(int(file.num_bytes.sum()) for file in files) / 1e6
        return Figures(
            text_mb=round(text_mb, 1),
            documents=sum(len(file) for file in files),
            tokens=sum(file.num_tokens for file in files),
            vocab_size=tok.vocab_size,
            tokenizer_seconds=round(trained - start, 1),
            encoding_seconds=round(written - trained, 1),
            encoding_mb_per_second=round(text_mb / (written - trained), 2),
            peak_resident_mb=round(peak_memory() / 1e6),
        )


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.prepare",
        "Time and memory of preparing texts.",
        "  python -m benchmarks.prepare --texts data/sample\n",
    )
    parser.add_argument("--texts", nargs="+", type=Path, required=True, help="folders, files or archives of plain text")
    parser.add_argument("--vocab-size", type=int, default=16_384, metavar="N", help="of the tokenizer (default 16,384)")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print. Raises a UserError for what the user can put right."""
    figures = asdict(measure(args.texts, args.vocab_size))
    lines = (f"{name:24}{value:>15,}\n" for name, value in figures.items())
    show(json.dumps(figures) + "\n" if args.json else "".join(lines))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.prepare", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
