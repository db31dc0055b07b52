"""Held-out bits per byte after so many minutes on this machine: our command beside other recipes.

    python -m benchmarks.training --texts PATH... [--held-out FILE] [--minutes 3 5 15] [--seeds 3] [--rows NAME...]
                                  [--json]

In: texts, as for LLM-BPE.py (a file named valid.txt is held out), or with --held-out the names of the texts to hold
out, as in benchmarks/held_out_books.txt.  Out: a table in Markdown for each number of minutes.

    ours       LLM-BPE.py --stage pretrain --minutes M: the command as people type it
    adamw, uncopying, classic, nanogpt    benchmarks/recipes.py; the last is a re-implementation: nanoGPT is no package

The minutes hold everything: reading, the tokenizer, encoding, compiling, and with ours planning, evaluation and saving.
The seconds in the table are those of the whole command, from its start to its end. Every training is a process of its
own, with nothing compiled before it, and one at a time; nothing else should run on the machine. Afterwards, outside of
the minutes, every model is scored alike on the whole held-out text (model/evaluate.py). A result is a file below --out,
and one that is there is not measured again: what was stopped goes on.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.compression import split_by_name
from benchmarks.recipes import Trained, kept
from bpe.command import CommandParser, positive_int, run_command, show
from bpe.errors import UserError
from bpe.files import atomic_write, sha256_of, write_json
from data.batches import HeldOut
from data.documents import read_texts
from data.layout import END
from data.sources import TextSource, text_source
from data.tokens import write_token_files
from model.evaluate import Score, evaluate
from model.hardware import pick_dtype
from model.tensors import MICRO_BATCH_TOKENS

ROOT = Path(__file__).resolve().parent.parent
OURS = "ours"
ROWS = {
    OURS: "ours",
    "adamw": "ours, with AdamW for Muon",
    "uncopying": "ours, without exercises in copying",
    "classic": "the seed: `classic`, Adam, 50,257 tokens",
    "nanogpt": "nanoGPT's recipe, re-implemented",
}
COMPILED = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")  # where torch keeps what it compiled for the next process


class TrainingFailed(UserError):
    """A recipe's process ended with another status than 0."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one training."""

    bits_per_byte: float  # of the whole held-out text
    bytes: int  # of that text
    parameters: int
    steps: int
    tokens_per_second: float  # training tokens over the seconds of the whole command
    seconds: float  # of the whole command
    commit: str  # of this project


class Bench:
    """The texts, and the results there are so far; all below `out`."""

    def __init__(self, texts: Sequence[Path], held_out: Path | None, out: Path) -> None:
        self.texts = tuple(path.resolve() for path in texts)
        fingerprint = text_source(self.texts, None, Path()).fingerprint()[:8]
        self.out = out / (f"{fingerprint}-{sha256_of(held_out)[:8]}" if held_out else fingerprint)
        if held_out is not None:
            self.texts = written_apart(self.texts, held_out, self.out / "texts")
        self.source: TextSource = text_source(self.texts, None, Path())

    def result(self, row: str, minutes: float, seed: int) -> Result | None:
        """What came of a training; None where it was not done."""
        path = self.path(row, minutes, seed)
        return Result(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def measure(self, row: str, minutes: float, seed: int) -> None:
        """Do a training, score its model, and write the result. Raises TrainingFailed."""
        path = self.path(row, minutes, seed)
        folder = path.with_suffix("")
        shutil.rmtree(folder, ignore_errors=True)  # of a benchmark that was stopped
        folder.mkdir(parents=True)
        seconds = self.train(row, minutes, seed, folder)
        trained = kept(row, folder)
        score = self.score(trained, folder)
        result = Result(
            bits_per_byte=score.bits_per_byte,
            bytes=score.num_bytes,
            parameters=trained.model.num_parameters,
            steps=trained.steps,
            tokens_per_second=trained.steps * trained.tokens_per_step / seconds,
            seconds=seconds,
            commit=commit(),
        )
        write_json(path, asdict(result))
        shutil.rmtree(folder, ignore_errors=True)

    def train(self, row: str, minutes: float, seed: int, folder: Path) -> float:
        """Run the recipe's command in its folder, what it says kept in a .log beside it; return its seconds."""
        command = ["LLM-BPE.py", "--stage", "pretrain"] if row == OURS else ["-m", "benchmarks.recipes", row]
        options = ["--minutes", f"{minutes:g}", "--seed", str(seed), "--run", str(folder.resolve())]
        environment = os.environ | {name: str(folder.resolve() / "compiled") for name in COMPILED}
        log = folder.with_suffix(".log")
        with log.open("wb") as file:
            started = time.perf_counter()
            status = subprocess.run(
                [sys.executable, *command, "--texts", *map(str, self.texts), *options],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
            seconds = time.perf_counter() - started
        if status == 130:
            raise KeyboardInterrupt
        if status != 0:
            raise TrainingFailed(f"{ROWS[row]} ended with status {status}; {log} says why")
        return seconds

    def score(self, trained: Trained, folder: Path) -> Score:
        """The whole held-out text, scored as `python -m model.evaluate` does."""
        tok, model = trained.tokenizer, trained.model
        files = write_token_files(self.source.examples(), tok, folder, "scored", source="", splits=["valid"])
        context = model.config.context
        rows = max(1, MICRO_BATCH_TOKENS[model.device.type] // context)
        held_out = HeldOut(files["valid"], tok, context=context, rows=rows)
        return evaluate(model, held_out, pick_dtype(None, model.device), progress=True)

    def path(self, row: str, minutes: float, seed: int) -> Path:
        """Where the result of a training is."""
        return self.out / f"{minutes:g}-minutes" / f"{row}-seed{seed}.json"


def commit() -> str:
    """What git calls the code that is here, with "-dirty" where it was changed since; "unknown" without git."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(asked, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def written_apart(texts: Sequence[Path], held_out: Path, folder: Path) -> tuple[Path, Path]:
    """The texts as train.txt and valid.txt in a folder, those that are listed in `held_out` in the latter.

    Raises DataError when a listed one is not among them.
    """
    train, valid = folder / "train.txt", folder / "valid.txt"
    if not (train.exists() and valid.exists()):
        with atomic_write(train) as train_file, atomic_write(valid) as valid_file:
            for split, document in split_by_name(read_texts(texts), held_out):
                (valid_file if split == "valid" else train_file).write(f"{document.text}\n{END}\n")
    return train, valid


def table(bench: Bench, rows: Sequence[str], minutes: float, seeds: Sequence[int]) -> str:
    """One number of minutes as a table in Markdown: medians over the seeds, and the spread of the first.

    Below it the commits at which that was measured: results that are kept may be of an older one.
    """
    lines = [
        f"| {minutes:g} minutes | bits per byte | lowest - highest | parameters | steps | tokens/s | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    commits = set[str]()
    for row in rows:
        results = [result for seed in seeds if (result := bench.result(row, minutes, seed)) is not None]
        if not results:
            continue
        commits |= {result.commit for result in results}
        bits, steps, speed = (
            [getattr(result, name) for result in results] for name in ("bits_per_byte", "steps", "tokens_per_second")
        )
        parameters = " or ".join(f"{number:,}" for number in sorted({result.parameters for result in results}))
        lines.append(
            f"| {ROWS[row]} | {statistics.median(bits):.3f} | {min(bits):.3f} - {max(bits):.3f} | {parameters} "
            f"| {statistics.median(steps):,.0f} | {statistics.median(speed):,.0f} "
            f"| {max(result.seconds for result in results):.0f} |"
        )
    return "\n".join([*lines, "", f"measured at: {', '.join(sorted(commits))}"]) + "\n"


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.training",
        "Held-out bits per byte after so many minutes on this machine: our command beside other recipes.",
        "  python -m benchmarks.training --texts train.txt valid.txt --minutes 3 5 15\n"
        "  python -m benchmarks.training --texts books.tar.xz --held-out benchmarks/held_out_books.txt --minutes 15 "
        "--rows ours adamw classic\n",
    )
    parser.add_argument("--texts", type=Path, nargs="+", required=True, metavar="PATH", help="as for LLM-BPE.py")
    parser.add_argument(
        "--held-out", type=Path, metavar="FILE", help="names of the texts to hold out (default: as training does)"
    )
    parser.add_argument("--minutes", type=float, nargs="+", default=[3.0, 5.0, 15.0], metavar="M", help="of a training")
    parser.add_argument("--seeds", type=positive_int, default=3, metavar="N", help="trainings of each row (default 3)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--out", type=Path, default=Path("runs/training"), metavar="DIR", help="where results are kept")
    parser.add_argument("--json", action="store_true", help="the results as one JSON list instead of tables")
    return parser


def run(args: argparse.Namespace) -> None:
    """Do the trainings that were not done yet, and print. Raises a UserError for what the user can put right."""
    bench = Bench(args.texts, args.held_out, args.out)
    seeds = range(args.seeds)
    done = [(seed, minutes, row) for seed in seeds for minutes in args.minutes for row in args.rows]
    for seed, minutes, row in done:  # a round over all rows at a time: the machine is not the same all day
        if bench.result(row, minutes, seed) is None:
            bench.measure(row, minutes, seed)
    if args.json:
        results = [
            {"row": row, "minutes": minutes, "seed": seed} | asdict(result)
            for seed, minutes, row in done
            if (result := bench.result(row, minutes, seed)) is not None
        ]
        show(json.dumps(results) + "\n")
        return
    for minutes in args.minutes:
        show(f"{table(bench, args.rows, minutes, seeds)}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.training", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
