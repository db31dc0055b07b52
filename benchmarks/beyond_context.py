"""Whether a story that is longer than the context goes on as fast as it began.

    python -m benchmarks.beyond_context [--preset story] [--json]

In: a preset, with random weights.  Out: tokens per second of every hundred tokens of a story three contexts long, and
of every context. A hundred in which the window moves reads half a window anew (model/context.py), so it is slower;
from the second context on, each context has as many of these.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.random_run import random_prompt, save_random_run
from bpe.command import CommandParser, run_command, show
from bpe.progress import progress_bar
from model import load
from model.config import ModelConfig, preset
from model.story import Story

CONTEXTS = 3
STEP = 100  # tokens
PROMPT_TOKENS = 16


def moments(shape: ModelConfig) -> list[float]:
    """When each token of the story was there, in seconds since it began; the first is the beginning itself."""
    with tempfile.TemporaryDirectory() as folder:
        model, tok = load(save_random_run(shape, Path(folder)), "cpu")
    torch.set_num_threads(os.cpu_count() or 1)
    prompt, most = random_prompt(tok, PROMPT_TOKENS), CONTEXTS * shape.context
    story = Story(model, tok, prompt, max_tokens=most, ending="cut", seed=0, stage="finetune")
    list(Story(model, tok, prompt, max_tokens=STEP, ending="cut", seed=0, stage="finetune"))  # warm
    times, start = [0.0], time.perf_counter()
    with progress_bar(total=most, unit="token", leave=False) as bar:
        for _ in story:
            new = len(story.tokens) + 1 - len(times)  # more than one where a token is no whole character
            times += [time.perf_counter() - start] * new
            bar.update(new)
    return times


def rates(times: Sequence[float], step: int) -> list[float]:
    """Tokens per second of each `step` tokens, the last ones that are fewer left out."""
    return [round(step / (stop - start), 1) for start, stop in pairwise(times[::step])]


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.beyond_context",
        "Whether a story longer than the context goes on as fast as it began.",
        "  python -m benchmarks.beyond_context --preset micro\n",
    )
    parser.add_argument("--preset", default="story", metavar="NAME", help="the model's sizes (default story)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print. Raises a UserError for what the user can put right."""
    shape = preset(args.preset)
    times = moments(shape)
    figures = {"hundreds": rates(times, STEP), "contexts": rates(times, shape.context)}
    if args.json:
        show(json.dumps(figures) + "\n")
        return
    show(f"tokens/s of every {STEP} tokens: {' '.join(f'{rate:.0f}' for rate in figures['hundreds'])}\n")
    show(f"of every context of {shape.context}: {' '.join(f'{rate:.1f}' for rate in figures['contexts'])}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.beyond_context", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
