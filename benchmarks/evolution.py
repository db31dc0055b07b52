"""What each change from the seed's design to ours is worth, at equal time: the tables of docs/evolution.md.

    python -m benchmarks.evolution --texts PATH... [--minutes 2] [--seeds 3] [--json]

In: texts with a held-out part of about half a megabyte.  Out: two tables as Markdown: held-out bits per byte of models
that were trained for so many minutes. In the first each row has one change more than the row before, and all of the
held-out text is scored; in the second the last of these models is trained on little text, many times, and scored are
the tokens by which a training chooses its best weights. Every training is a file below --out, and one that is there is
not done again: what was stopped goes on. Nothing else should run on the machine.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from benchmarks.ladder import Ladder, shape_after
from benchmarks.recipes import ADAM_RATE, NEVER, OneOptimizer, adamw_of
from benchmarks.training import commit
from bpe import Tokenizer
from bpe.command import CommandParser, positive_int, run_command, show
from bpe.files import write_json
from data.batches import HeldOut, TrainingBatches
from data.encoding import Example
from data.layout import SPECIAL_TOKENS
from data.sources import TextSource, text_source
from data.tokens import TokenFile, prepared
from model.config import preset
from model.following import SilentReport
from model.hardware import pick_device, pick_dtype
from model.optimizer import Optimizer
from model.plan import FORGETTING_EPOCHS, weight_decay
from model.settings import STAGES, Limit, TrainConfig
from model.train import Run, Scores, train

SHAPE = preset("micro")  # of every row, but for the feed-forward network of the first ones (benchmarks/ladder.py)
SEED_VOCABULARY = 50_257
LITTLE = 500_000  # characters of training text that are read many times
CHECKS = 50  # optimizer steps between the evaluations of those trainings
CHECKED_TOKENS = 20_000
DROPOUT = 0.2

CHANGES = {
    "seed": "the seed's design: 50,257 tokens, attention scaled by width, Adam, a constant learning rate",
    "tokenizer": f"a vocabulary of {SHAPE.vocab_size:,}",
    "scale": "attention scaled by the size of a head",
    "positions": "rotary positions",
    "norms": "RMSNorm, on queries and keys too; no biases",
    "activation": "SwiGLU for ReLU, with as many weights",
    "initialisation": "std by the number of inputs, zero into the residual stream",
    "tying": "the embedding is the output layer",
    "adamw": "AdamW: weight decay, but not of norms",
    "muon": "Muon for the matrices, the embedding's AdamW at 0.4 of its rate",
    "schedule": "warm-up, plateau and a linear fall to zero",
}
REPEATED = {
    "last": "little text, many times: the weights at the end",
    "kept": "of the same training, the weights that scored best",
    "averaged": "of the same training, averaged weights where they score better",
    "forgetting": f"another training, whose weights forget in {FORGETTING_EPOCHS:g} times through; averaged, too",
    "dropout": f"another training, with dropout {DROPOUT} instead; averaged, too",
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained: a rung of the ladder, on all the text or on little of it."""

    rung: str
    little: bool = False
    forgetting: bool = False  # whether weight decay goes by the size of the text, as in LLM-BPE.py
    dropout: float = 0.0

    @property
    def changes(self) -> frozenset[str]:
        """Those of this rung and of all below it."""
        names = list(CHANGES)
        return frozenset(names[: names.index(self.rung) + 1])

    @property
    def name(self) -> str:
        """Of its file."""
        against_repeats = f"-forgetting{FORGETTING_EPOCHS}" * self.forgetting + f"-dropout{self.dropout}" * (
            self.dropout > 0
        )
        return f"{'little' if self.little else 'all'}-{self.rung}{against_repeats}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one training, in bits per byte of the held-out text."""

    steps: int
    parameters: int
    epochs: float  # times through the text
    last: float  # with the weights at the end
    kept: float  # with the weights that scored best
    averaged: float  # the same, averaged weights taken into account
    commit: str  # of this project


LAST = list(CHANGES)[-1]
ROWS: dict[str, tuple[str, Training, Callable[[Result], float]]] = {  # what it says, what it needs, what it shows
    **{name: (says, Training(rung=name), lambda result: result.last) for name, says in CHANGES.items()},
    "last": (REPEATED["last"], Training(rung=LAST, little=True), lambda result: result.last),
    "kept": (REPEATED["kept"], Training(rung=LAST, little=True), lambda result: result.kept),
    "averaged": (REPEATED["averaged"], Training(rung=LAST, little=True), lambda result: result.averaged),
    "forgetting": (REPEATED["forgetting"], Training(rung=LAST, little=True, forgetting=True), lambda r: r.averaged),
    "dropout": (REPEATED["dropout"], Training(rung=LAST, little=True, dropout=DROPOUT), lambda r: r.averaged),
}


def optimizer_of(model: torch.nn.Module, config: TrainConfig, changes: frozenset[str]) -> Optimizer:
    """The optimizer of a rung."""
    if "muon" in changes:
        return Optimizer(model, config, pick_dtype(None, pick_device()))
    if "adamw" in changes:
        return adamw_of(model, ADAM_RATE, config.weight_decay)
    return OneOptimizer(torch.optim.Adam(model.parameters(), ADAM_RATE))


def config_of(training: Training, seed: int) -> TrainConfig:
    """The numbers of a training: those of our pretraining, but for the schedule below its rung."""
    often = {"eval_every": CHECKS, "eval_tokens": CHECKED_TOKENS} if training.little else {"eval_every": NEVER}
    config = replace(STAGES["pretrain"], seed=seed, save_every=NEVER, dropout=training.dropout, **often)
    return config if "schedule" in training.changes else replace(config, warmup_steps=0, decay_share=1 / NEVER)


class Scored(SilentReport):
    """Remembers every evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.scores: list[Scores] = []

    def evaluated(self, run: Run, scores: Scores) -> None:
        """Remember it."""
        self.scores.append(scores)


class Bench:
    """The text, its vocabularies and token files, and the results there are so far; all below `out`."""

    def __init__(self, source: TextSource, out: Path, minutes: float) -> None:
        self.source = source
        self.fingerprint = source.fingerprint()
        self.out = out / f"{self.fingerprint[:8]}-{minutes:g}-minutes"
        self.seconds = 60 * minutes

    def result(self, training: Training, seed: int) -> Result | None:
        """What came of a training; None where it was not done."""
        path = self.path(training, seed)
        return Result(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def measure(self, training: Training, seed: int) -> None:
        """Do a training, and write its result."""
        config, changes = config_of(training, seed), training.changes
        tok = self.tokenizer(SHAPE.vocab_size if "tokenizer" in changes else SEED_VOCABULARY)
        shape = shape_after(changes, replace(SHAPE, vocab_size=tok.vocab_size))
        files = self.token_files(tok, little=training.little)
        rows = config.rows(shape.context)
        batches = TrainingBatches(files[0], context=shape.context, rows=rows, seed=seed)
        if training.forgetting:
            config = replace(config, weight_decay=weight_decay(config, batches.rows_of_epoch(0) / rows))
        most = config.eval_tokens if training.little else None
        held_out = HeldOut(files[1], tok, context=shape.context, rows=rows, max_tokens=most)
        torch.manual_seed(seed)
        device = pick_device()
        model = Ladder(shape, changes, config.dropout).to(device)
        run = Run(model, optimizer_of(model, config, changes), pick_dtype(None, device), device)
        run.evaluated = 0  # so that no time goes into scoring a model that has learned nothing
        report = Scored()
        train(run, batches, held_out, config, Limit(seconds=self.seconds), report)
        result = Result(
            steps=run.step,
            parameters=model.num_parameters,
            epochs=run.step * rows * shape.context / batches.positions_per_epoch,
            last=report.scores[-1].latest,
            kept=min(scores.latest for scores in report.scores),
            averaged=min(scores.best for scores in report.scores),
            commit=commit(),
        )
        write_json(self.path(training, seed), asdict(result))

    def tokenizer(self, vocab_size: int) -> Tokenizer:
        """A vocabulary of that size, or of as many tokens as the text supports, learned from the training text."""
        path = self.out.parent / self.fingerprint[:8] / f"tokenizer-{vocab_size}.json"
        if path.exists():
            return Tokenizer.load(path)
        texts = (document.text for split, document in self.source.examples() if split == "train")
        tok = Tokenizer.train(texts, vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, shrink=True)
        tok.save(path)
        return tok

    def token_files(self, tok: Tokenizer, *, little: bool) -> tuple[TokenFile, TokenFile]:
        """The text to train on, and the held-out text."""
        name = f"{'little' if little else 'all'}-{tok.vocab_size}"
        folder = self.out.parent / self.fingerprint[:8]
        files = prepared(self.little if little else self.source.examples, tok, folder, name, self.fingerprint)
        return files["train"], files["valid"]

    def little(self, purpose: str) -> Iterator[Example]:
        """The first of the training text, and all that is held out."""
        left = LITTLE
        for split, document in self.source.examples(purpose):
            if split == "valid":
                yield split, document
            elif left > 0:
                yield split, replace(document, text=document.text[:left])
                left -= len(document.text)

    def path(self, training: Training, seed: int) -> Path:
        """Where the result of a training is."""
        return self.out / f"{training.name}-seed{seed}.json"


def table(bench: Bench, names: Sequence[str], seeds: Sequence[int]) -> str:
    """The rows as a table in Markdown: the median over the seeds, the spread, and what the row's change brought."""
    lines = [
        "| change | bits per byte | lowest - highest | change | steps | times through the text | parameters |",
        "|---|---|---|---|---|---|---|",
    ]
    before, commits = None, set[str]()
    for name in names:
        says, training, shown = ROWS[name]
        results = [result for seed in seeds if (result := bench.result(training, seed)) is not None]
        if not results:
            continue
        commits |= {result.commit for result in results}
        values = [shown(result) for result in results]
        median = statistics.median(values)
        gain = "" if before is None else f"{median - before:+.3f}"
        before = median
        steps = statistics.median(result.steps for result in results)
        epochs = statistics.median(result.epochs for result in results)
        lines.append(
            f"| {says} | {median:.3f} | {min(values):.3f} - {max(values):.3f} | {gain} "
            f"| {steps:,.0f} | {epochs:.2f} | {results[0].parameters:,} |"
        )
    return "\n".join([*lines, "", f"measured at: {', '.join(sorted(commits))}"]) + "\n"


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.evolution",
        "What each change from the seed's design to ours is worth, at equal time.",
        "  python -m benchmarks.evolution --texts train.txt valid.txt --minutes 2 --seeds 3\n",
    )
    parser.add_argument("--texts", type=Path, nargs="+", required=True, metavar="PATH", help="as for LLM-BPE.py")
    parser.add_argument("--minutes", type=float, default=2.0, metavar="M", help="of each training (default 2)")
    parser.add_argument("--seeds", type=positive_int, default=3, metavar="N", help="trainings of each row (default 3)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    parser.add_argument(
        "--out", type=Path, default=Path("runs/evolution"), metavar="DIR", help="where results are kept"
    )
    parser.add_argument("--json", action="store_true", help="the results as one JSON object instead of tables")
    return parser


def run(args: argparse.Namespace) -> None:
    """Do the trainings that were not done yet, and print. Raises a UserError for what the user can put right."""
    bench = Bench(text_source(args.texts, None, Path()), args.out, args.minutes)
    seeds = range(args.seeds)
    for seed in seeds:  # a round over all rows at a time: the machine is not the same all day
        for training in dict.fromkeys(ROWS[name][1] for name in args.rows):
            if bench.result(training, seed) is None:
                bench.measure(training, seed)
    if args.json:
        trainings = {ROWS[name][1] for name in args.rows}
        results = {t.name: [asdict(found) for seed in seeds if (found := bench.result(t, seed))] for t in trainings}
        show(json.dumps(results) + "\n")
        return
    for names in (CHANGES, REPEATED):
        if asked := [name for name in args.rows if name in names]:
            show(f"{table(bench, asked, seeds)}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.evolution", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
