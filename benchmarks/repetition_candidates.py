"""Ways to hold down repetition: the two of the model's code, one that is not, and none.

    python -m benchmarks.repetition_candidates DIR --pairs PATH [--num 100] [--json]

In: a finetuned run and pairs.  Out: the table of benchmarks/repetition.py, for no method at all, for the repeat penalty
at several strengths, and for these, without it and with a mild one:

    no-repeat n    a token that would complete a run of n tokens that stands in the story already never comes
                   (Paulus et al. 2017, arXiv:1705.04304, section 2.5)
    DRY            as in model/sampling.py

The last column is what a method costs: bits that the model itself gives to each token that was written. Where it is far
above the first row's, the method writes what the model would not.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.endings import held_out_pairs
from benchmarks.repetition import show_rows
from bpe.command import CommandParser, run_command
from model.loading import load
from model.originality import WORDS, compare
from model.story import Story
from model.story_settings import Sampling

Tokens = Sequence[int]
Penalty = Callable[[Tokens], dict[int, float]]  # of a story so far: which tokens lose how much of their logit


def nothing(tokens: Tokens) -> dict[int, float]:
    """No token loses anything."""
    return {}


def no_repeat(n: int, tokens: Tokens) -> dict[int, float]:
    """Everything that would complete a run of n tokens a second time loses all."""
    last = list(tokens[len(tokens) - n + 1 :])
    return {tokens[i]: math.inf for i in range(n - 1, len(tokens)) if list(tokens[i - n + 1 : i]) == last}


class HeldStory(Story):
    """A story whose logits a penalty changes first; the probability of the end stays the model's own.

    bits: what the model gave to each token that was written.
    """

    def __init__(self, penalty: Penalty, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.penalty = penalty
        self.bits: list[float] = []

    def go_on(self, logits: Tensor) -> str:
        """As Story's."""
        held = logits.double()
        before = held.log_softmax(-1)
        for token, loss in self.penalty([*self.given, *self.tokens]).items():
            held[token] -= loss
        others = held.index_fill(0, held.new_tensor([self.end]).long(), -math.inf).logsumexp(-1)
        held[self.end] = others + before[self.end] - (-before[self.end].expm1()).log()
        written = len(self.tokens)
        piece = super().go_on(held)
        if len(self.tokens) > written:
            self.bits.append(-float(before[self.tokens[-1]]) / math.log(2))
        return piece


def run(args: argparse.Namespace) -> None:
    """Write the stories and count. Raises a UserError for what the user can put right."""
    pairs = held_out_pairs(args.pairs, args.num)
    model, tok = load(args.folder)
    methods: dict[str, tuple[Penalty, float]] = {  # a penalty of this file, and how strong DRY is
        "": (nothing, 0.0),
        **{f"no-repeat {n}": (partial(no_repeat, n), 0.0) for n in (3, 4, 6)},
        "DRY": (nothing, Sampling().dry),
    }
    strengths = {name: (1.0, 1.1) if name else (1.0, 1.05, 1.1, 1.2, 1.3) for name in methods}
    stories: dict[str, list[HeldStory]] = {}

    def way(name: str, penalty: Penalty, sampling: Sampling) -> Callable[[str, int], Story]:
        def write(prompt: str, seed: int) -> Story:
            how = {"sampling": sampling, "max_tokens": 2 * WORDS, "seed": seed}
            stories.setdefault(name, []).append(HeldStory(penalty, model, tok, prompt, **how))
            return stories[name][-1]

        return write

    ways = {}
    for method, (penalty, dry) in methods.items():
        for strength in strengths[method]:
            name = " + ".join(filter(None, [method, f"penalty {strength:g}" if strength > 1 else ""])) or "nothing"
            ways[name] = way(name, penalty, Sampling(repeat_penalty=strength, dry=dry))
    rows = compare(pairs, ways)
    for name, written in stories.items():
        bits = [bit for story in written for bit in story.bits]
        rows[name]["bits"] = round(sum(bits) / len(bits), 2)
    show_rows(rows, len(pairs), as_json=args.json)


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.repetition_candidates",
        "Ways to hold down repetition, beside people's stories.",
        "  python -m benchmarks.repetition_candidates runs/story --pairs writingPrompts/\n",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a run's folder, or its finetune stage's")
    parser.add_argument("--pairs", type=Path, required=True, metavar="PATH", help="pairs, for those held out")
    parser.add_argument("--num", type=int, default=100, metavar="N", help="stories (default 100)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.repetition_candidates", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
