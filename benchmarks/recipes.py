"""The recipes that benchmarks/training.py sets beside ours; one of them, in a process of its own, for so many minutes.

    python -m benchmarks.recipes NAME --texts PATH... --minutes M --seed S --run DIR

In: texts, as for LLM-BPE.py.  Out: a folder from which `kept` gives the trained model. As with our --minutes, reading
the texts, learning the tokenizer, encoding and compiling are in the time; starting Python and importing torch are not.

    adamw      ours in everything, planned and trained by the same code, but AdamW moves the matrices, too; its rate is
               the best of four (LOG.md), what is planned was tuned for ours
    uncopying  ours, but nothing of it teaches a model to copy (data/copying.py), and weights forget sooner, as without
    classic    the seed of this project: model/classic.py, 50,257 tokens, Adam at a constant rate, the latest weights;
               compiled where ours is
    nanogpt    benchmarks/nano_gpt.py
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.nano_gpt import ROWS, SHAPE, NanoGPT, train_nano_gpt
from bpe import Tokenizer
from bpe.command import CommandParser, run_command
from bpe.files import write_json
from data.batches import HeldOut, TrainingBatches
from data.documents import Split
from data.sources import text_source
from data.tokens import TokenFile, prepared
from model.beginning import train_tokenizer
from model.build import build
from model.compiling import pays_to_compile
from model.config import ModelConfig, preset
from model.folder import TOKENIZER
from model.following import SilentReport
from model.hardware import pick_device, pick_dtype
from model.language_model import LanguageModel
from model.loading import load_stage
from model.optimizer import Optimizer, parameter_groups
from model.request import Request, Settings
from model.run import RunFolder
from model.settings import STAGES, Limit, TrainConfig
from model.stages import run_stages
from model.train import Run, train

ADAMW_RATE = 2e-3  # of .001, .002, .004 and .008 the best in five minutes (LOG.md)
ADAM_RATE = 1e-3  # AdamW's best of .001, .002 and .004 in evolution (LOG.md); for `classic` no other was tried
CLASSIC = preset("classic")
NEVER = 10**9
WEIGHTS, FACTS = "weights.safetensors", "facts.json"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a recipe gave."""

    model: LanguageModel
    tokenizer: Tokenizer
    steps: int
    tokens_per_step: int


class OneOptimizer(Optimizer):
    """One of torch's optimizers for all weights, behind the interface of our two."""

    def __init__(self, part: torch.optim.Optimizer) -> None:
        self.parts = [part]
        self.peaks = [part.param_groups[0]["lr"]]


class Constant(OneOptimizer):
    """The same at a constant rate, whatever the schedule says."""

    def step(self, multiplier: float, scaler: torch.amp.GradScaler) -> None:
        """Move the weights at the full rate."""
        super().step(1.0, scaler)


def adamw_of(model: torch.nn.Module, rate: float, weight_decay: float) -> OneOptimizer:
    """AdamW for every weight, of which norms and biases do not decay."""
    matrices, decayed, plain = parameter_groups(model)
    groups = [{"params": [*matrices, *decayed], "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return OneOptimizer(torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95)))


def adamw_only(model: torch.nn.Module, config: TrainConfig, dtype: torch.dtype) -> Optimizer:
    """AdamW that takes as much off a matrix in a step as ours does. dtype: of Muon's products, which are not needed."""
    return adamw_of(model, ADAMW_RATE, config.weight_decay * config.learning_rate / ADAMW_RATE)


def adamw(request: Request) -> None:
    """Our command, with the other optimizer in the place of ours; only the measuring before has ours."""
    with patch("model.beginning.Optimizer", adamw_only):
        run_stages("pretrain", request)


def uncopying(request: Request) -> None:
    """Our command, with no exercises however long the training; the preset is chosen as if there were."""
    with patch("model.plan.EXERCISES", 0):
        run_stages("pretrain", request)


def classic(request: Request) -> None:
    """The seed's recipe in our loop, which is told to evaluate and to save nothing."""
    started = time.monotonic()
    tok, files = prepare(request, CLASSIC.vocab_size)
    shape = replace(CLASSIC, vocab_size=tok.vocab_size)
    config = replace(STAGES["pretrain"], seed=request.seed or 0, eval_every=NEVER, save_every=NEVER)
    rows = config.rows(shape.context)
    batches = TrainingBatches(files["train"], context=shape.context, rows=rows, seed=config.seed)
    held_out = HeldOut(files["valid"], tok, context=shape.context, rows=rows, max_tokens=1)
    device = pick_device()
    torch.manual_seed(config.seed)
    model = build(shape).to(device)
    optimizer = Constant(torch.optim.Adam(model.parameters(), lr=ADAM_RATE))
    run = Run(model, optimizer, pick_dtype(None, device), device)
    limit = Limit(seconds=60 * (request.minutes or 0.0))
    if pays_to_compile(shape, limit, config.batch_tokens, device):
        run.compile()
    run.evaluated = 0  # so that no time goes into scoring a model that has learned nothing
    run.started = started
    train(run, batches, held_out, config, limit, SilentReport())
    keep(request.run, Trained(model=model, tokenizer=tok, steps=run.step, tokens_per_step=rows * shape.context))


def nanogpt(request: Request) -> None:
    """nanoGPT's model and loop on our tokens."""
    started = time.monotonic()
    tok, files = prepare(request, SHAPE.vocab_size)
    seed, device = request.seed or 0, pick_device()
    torch.manual_seed(seed)
    model = NanoGPT(replace(SHAPE, vocab_size=tok.vocab_size)).to(device)
    steps = train_nano_gpt(
        model,
        np.asarray(files["train"].tokens),
        dtype=pick_dtype(None, device),
        seed=seed,
        seconds=60 * (request.minutes or 0.0),
        elapsed=lambda: time.monotonic() - started,
    )
    keep(request.run, Trained(model=model, tokenizer=tok, steps=steps, tokens_per_step=ROWS * SHAPE.context))


RECIPES: dict[str, Callable[[Request], None]] = {
    "adamw": adamw,
    "uncopying": uncopying,
    "classic": classic,
    "nanogpt": nanogpt,
}


def prepare(request: Request, vocab_size: int) -> tuple[Tokenizer, dict[Split, TokenFile]]:
    """A tokenizer of that size, or of as many tokens as the text supports, and the texts as token files."""
    source = text_source(request.texts, None, Path())
    tok = train_tokenizer(source, vocab_size, shrink=True)
    return tok, prepared(source.examples, tok, request.run / "tokens", "texts", source.fingerprint())


def keep(folder: Path, trained: Trained) -> None:
    """Write a model that is not trained by our command to a folder."""
    trained.tokenizer.save(folder / TOKENIZER)
    save_file(trained.model.state_dict(), folder / WEIGHTS)
    facts = {"steps": trained.steps, "tokens_per_step": trained.tokens_per_step, "shape": asdict(trained.model.config)}
    write_json(folder / FACTS, facts)


def kept(recipe: str, folder: Path) -> Trained:
    """What a recipe, or our command, left in a folder."""
    if recipe in ("classic", "nanogpt"):
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        config = ModelConfig(**facts["shape"])
        model = NanoGPT(config) if recipe == "nanogpt" else build(config)
        model.load_state_dict(load_file(folder / WEIGHTS))
        tok, steps, tokens_per_step = Tokenizer.load(folder / TOKENIZER), facts["steps"], facts["tokens_per_step"]
    else:
        model, tok = load_stage(folder, dtype="float32")
        record = RunFolder(folder).stage("pretrain")
        steps, tokens_per_step = record["step"], Settings.from_record(record["settings"]).tokens_per_step
    return Trained(model=model.to(pick_device()), tokenizer=tok, steps=steps, tokens_per_step=tokens_per_step)


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.recipes",
        "Train with another recipe than ours, to compare.",
        "  python -m benchmarks.recipes nanogpt --texts train.txt valid.txt --minutes 3 --seed 0 --run runs/nanogpt\n",
    )
    parser.add_argument("recipe", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--texts", type=Path, nargs="+", required=True, metavar="PATH", help="as for LLM-BPE.py")
    parser.add_argument("--minutes", type=float, required=True, metavar="M", help="to train")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="of weights and batches")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="an empty folder for what comes of it")
    return parser


def run(args: argparse.Namespace) -> None:
    """Train. Raises a UserError for what the user can put right."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    request = Request(texts=tuple(args.texts), minutes=args.minutes, seed=args.seed, run=args.run)
    RECIPES[args.recipe](request)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.recipes", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
