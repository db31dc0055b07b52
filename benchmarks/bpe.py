"""Our tokenizer beside the field's: rustbpe, Hugging Face tokenizers, bpeasy, tiktoken.

    python -m benchmarks.bpe --texts PATH... [--tasks encode] [--repeats 3] [--json]

In: texts, as for LLM-BPE.py.  Out: a table of medians, and ratios of our time to a peer's in the same round.

Each measurement runs in a process of its own (benchmarks/bpe_tasks.py). A round measures every library once, one after
the other, so that a machine that is slower for a while is slower for all of them; a ratio is the median of the rounds'
ratios. Where libraries must agree (merges with rustbpe, ids with tiktoken and tokenizers), that they do is checked.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.bpe_tasks import BOOK, DOCUMENT, MEASURE, Disagreement, Measured, Task, documents
from bpe import Tokenizer
from bpe.command import CommandParser, positive_int, run_command, show
from bpe.errors import UserError
from bpe.progress import progress_bar
from data.documents import read_texts
from data.layout import SPECIAL_TOKENS

MB = 1_000_000
VOCAB_SIZE = 16_384
STORY = 2_000  # characters
STORIES = f"encode texts of {STORY:,} characters"
TASKS = (*MEASURE, "start")
ONE_WORKER = "1 worker"  # as a peer: our own library
START = "import time; start = time.perf_counter(); from bpe import Tokenizer; Tokenizer.load({!r}); "
START += "print(time.perf_counter() - start)"


class MeasurementError(UserError):
    """A library could not do its task."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One line of the table, measured on so many bytes: our seconds and a peer's."""

    what: str
    peer: str
    num_bytes: int
    ours: float
    theirs: float
    ratio: float  # ours to theirs, below 1 where we are faster

    def row(self) -> str:
        """As a line of the table."""
        rates = "".join(
            f"{self.num_bytes / seconds / MB:>9.1f}" if self.num_bytes else " " * 9
            for seconds in (self.ours, self.theirs)
        )
        return f"{self.what:58}{self.peer:12}{self.ours:>10.4g}{self.theirs:>10.4g}{rates}{self.ratio:>8.2f}\n"


HEADER = f"{'':58}{'peer':12}{'ours s':>10}{'theirs s':>10}{'MB/s':>9}{'theirs':>9}{'ratio':>8}\n"


def compared(texts: list[Path], tasks: Sequence[str], repeats: int, folder: Path) -> Iterator[Comparison]:
    """Every comparison of these tasks that there is text enough for, as it is measured.

    Raises Disagreement, and MeasurementError when a library fails.
    """
    text = folder / "text"
    total = _write(text, texts)
    tokenizer = folder / "tokenizer.json"
    with text.open(encoding="utf-8", newline="") as file:
        beginning = file.read(100 * MB)
    tok = Tokenizer.train(
        [beginning], vocab_size=VOCAB_SIZE, special_tokens=SPECIAL_TOKENS, pattern="gpt4", shrink=True
    )
    tok.save(tokenizer)
    del beginning

    def rounds(
        what: str,
        num_bytes: int,
        workers: int,
        peers: Sequence[str],
        vocab_size: int = 0,
        most: int = 99,
        document: int = DOCUMENT,
    ) -> Iterator[Comparison]:
        base = {"task": what.split()[0], "text": str(text), "num_bytes": num_bytes, "workers": workers}
        base |= {"vocab_size": vocab_size, "tokenizer": str(tokenizer), "document": document}
        at_hand = [peer for peer in peers if peer == ONE_WORKER or find_spec(peer)]
        name = f"{what}, {num_bytes / MB:.3g} MB, {workers} worker{'s' * (workers > 1)}"
        if (
            num_bytes <= total
            and base["task"] in tasks
            and (not vocab_size or _fills(str(text), num_bytes, vocab_size))
        ):
            yield from _compare(name, base, at_hand, min(repeats, most))

    main = min(100 * MB, total)  # the size that most is measured on
    trainers = ["rustbpe", "tokenizers", "bpeasy"]
    yield from rounds("train 12,288", 1_200_000, 1, trainers, 12_288)  # no pair is left that occurs twice soon after
    yield from rounds("train 16,384", 10 * MB, 1, trainers, VOCAB_SIZE)
    yield from rounds("train 16,384", main, 1, trainers, VOCAB_SIZE)
    yield from rounds("train 16,384", main, 2, trainers, VOCAB_SIZE)
    yield from rounds("train 4,096", main, 1, ["rustbpe"], 4_096)
    yield from rounds("train 32,768", main, 1, ["rustbpe"], 32_768)
    yield from rounds("train 16,384", total, 1, ["rustbpe"], VOCAB_SIZE)
    yield from rounds("encode", main, 1, ["tiktoken"])
    yield from rounds("encode", main, 2, ["tiktoken", ONE_WORKER])
    yield from rounds("encode", main, 1, ["tokenizers"], most=1)  # minutes a run
    for megabytes in (1, 2, 5, 10, 20):
        yield from rounds("encode", megabytes * MB, 1, ["tiktoken", "tokenizers"] if megabytes == 1 else ["tiktoken"])
    for workers in (1, 2):
        yield from rounds(STORIES, 10 * MB, workers, ["tiktoken", "tokenizers"], document=STORY)
    yield from rounds("decode", main, 1, ["tiktoken"])
    yield from rounds("short prompt of 20 words", min(MB, total), 1, ["tiktoken"])
    if "start" in tasks:
        started = statistics.median(_seconds_to_start(tokenizer) for _ in range(5))
        yield Comparison(what="import bpe, load 16,384 tokens", peer="", num_bytes=0, ours=started, theirs=0, ratio=0)


def _write(file: Path, texts: list[Path]) -> int:
    """Write the texts into one file; return how many bytes they are."""
    with file.open("w", encoding="utf-8", newline="") as out:
        for document in read_texts(texts):
            out.write(document.text + "\n\n")
    return file.stat().st_size


@functools.cache
def _fills(text: str, num_bytes: int, vocab_size: int) -> bool:
    """Whether a text has pairs enough for the vocabulary: where it has not, ours stops, and others go on."""
    task = Task(task="train", who="ours", text=text, num_bytes=num_bytes, workers=1)
    tok = Tokenizer.train(documents(task, BOOK), vocab_size=vocab_size, pattern="gpt4", shrink=True)
    return tok.vocab_size == vocab_size


def _compare(what: str, base: dict[str, object], peers: Sequence[str], repeats: int) -> Iterator[Comparison]:
    """Rounds of ours and all peers' on one task."""
    measured: dict[str, list[Measured]] = {who: [] for who in ("ours", *peers)}
    with progress_bar(total=repeats * len(measured), description=what, unit="run", leave=False) as bar:
        for _ in range(repeats):
            for who, results in measured.items():
                results.append(_measured(base | ({"who": "ours", "workers": 1} if who == ONE_WORKER else {"who": who})))
                bar.update()
    agree = {"train": ["rustbpe"], "encode": ["tiktoken", "tokenizers"], "decode": ["tiktoken"], "short": ["tiktoken"]}
    digests = {result.digest for who in ("ours", *agree[str(base["task"])]) for result in measured.get(who, [])}
    if len(digests) > 1:
        raise Disagreement(f"{what}: not all libraries give the same; this is a bug of one of them, please report it")
    num_bytes = 0 if base["task"] == "short" else int(str(base["num_bytes"]))
    states = ("cold", "warm") if base["task"] == "encode" else ("",)
    for place, state in enumerate(states):
        for peer in peers:
            pairs = [
                (ours.seconds[place], theirs.seconds[place])
                for ours, theirs in zip(measured["ours"], measured[peer], strict=True)
            ]
            yield Comparison(
                what=f"{what} {state}".strip(),
                peer=peer,
                num_bytes=num_bytes,
                ours=statistics.median(ours for ours, _ in pairs),
                theirs=statistics.median(theirs for _, theirs in pairs),
                ratio=statistics.median(ours / theirs for ours, theirs in pairs),
            )


def _measured(task: dict[str, object]) -> Measured:
    """Measure in a process of its own. Raises MeasurementError."""
    workers = str(task["workers"])
    environment = os.environ | {"RAYON_NUM_THREADS": workers, "TOKENIZERS_PARALLELISM": str(workers != "1").lower()}
    command = [sys.executable, "-m", "benchmarks.bpe_tasks", json.dumps(vars(Task(**task)))]  # type: ignore[arg-type]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise MeasurementError(
            f"{task['who']} cannot {task['task']} this text: {reason}; give another, or other --tasks"
        )
    return Measured(**json.loads(done.stdout))


def _seconds_to_start(tokenizer: Path) -> float:
    """Of importing `bpe` and loading a tokenizer, in a fresh interpreter."""
    command = [sys.executable, "-c", START.format(str(tokenizer))]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.bpe", "Our tokenizer beside the field's.", "  python -m benchmarks.bpe --texts $BOOKS\n"
    )
    parser.add_argument("--texts", nargs="+", type=Path, required=True, help="folders, files or archives of plain text")
    parser.add_argument(
        "--tasks", nargs="+", choices=TASKS, default=TASKS, metavar="NAME", help=f"what to measure: {', '.join(TASKS)}"
    )
    parser.add_argument(
        "--repeats", type=positive_int, default=3, metavar="N", help="rounds of each measurement (default 3)"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON for each comparison")
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print. Raises a UserError for what the user can put right."""
    if not args.json:
        show(HEADER)
    with tempfile.TemporaryDirectory() as folder:
        for comparison in compared(args.texts, args.tasks, args.repeats, Path(folder)):
            show(json.dumps(asdict(comparison)) + "\n" if args.json else comparison.row())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.bpe", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
