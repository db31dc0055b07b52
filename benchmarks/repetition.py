"""How much stories repeat themselves, beside what people wrote for the same prompts.

    python -m benchmarks.repetition DIR --pairs PATH [--num 100] [--settings "NAME=VALUE ..." ...] [--json]

In: a finetuned run, pairs, and settings of sampling to compare.  Out: the figures of model/originality.py, but for what
is copied, for people's stories and those of each of the settings, one for each of the first distinct held-out prompts.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from benchmarks.endings import held_out_pairs
from bpe.command import CommandParser, UsageError, run_command, show
from model.loading import load
from model.originality import Figures, compare, table, write
from model.story_settings import Sampling


def sampling_of(text: str) -> Sampling:
    """Settings that are written as "NAME=VALUE ...", the others at their defaults. Raises UsageError."""
    kinds = {field.name: type(getattr(Sampling(), field.name)) for field in fields(Sampling)}
    changes = {}
    for setting in text.split():
        name, _, value = setting.partition("=")
        try:
            changes[name] = kinds[name](value)
        except (KeyError, ValueError) as error:
            raise UsageError(f"{setting!r} is no setting; write NAME=VALUE, of {', '.join(kinds)}") from error
    return replace(Sampling(), **changes)


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.repetition",
        "How much stories on held-out prompts repeat themselves, beside people's.",
        "  python -m benchmarks.repetition runs/story --pairs writingPrompts/ --settings '' 'repeat_penalty=1.2'\n",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a run's folder, or its finetune stage's")
    parser.add_argument("--pairs", type=Path, required=True, metavar="PATH", help="pairs, for those held out")
    parser.add_argument("--num", type=int, default=100, metavar="N", help="stories (default 100)")
    parser.add_argument(
        "--settings", nargs="+", default=[""], metavar="S", help='each as "NAME=VALUE ..." (default "": the defaults)'
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser


def show_rows(rows: Mapping[str, Figures], stories: int, *, as_json: bool) -> None:
    """The figures as a table, or one JSON object."""
    show(json.dumps({"stories": stories, "figures": rows}) + "\n" if as_json else table(rows, stories))


def run(args: argparse.Namespace) -> None:
    """Write the stories and count. Raises a UserError for what the user can put right."""
    samplings = {text or "defaults": sampling_of(text) for text in args.settings}
    pairs = held_out_pairs(args.pairs, args.num)
    model, tok = load(args.folder)
    ways = {name: partial(write, model, tok, sampling) for name, sampling in samplings.items()}
    show_rows(compare(pairs, ways), len(pairs), as_json=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.repetition", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
