"""How much stories repeat themselves, beside what people wrote for the same prompts.

    python -m benchmarks.repetition DIR --pairs PATH [--num 100] [--settings "NAME=VALUE ..." ...] [--json]

In: a finetuned run, pairs, and settings of sampling to compare.  Out: for people's stories and those of each of the
settings, of the first 150 words of a story for each of the first distinct held-out prompts, story i with seed i:

    distinct_n     of a hundred runs of n words, how many are different (Li et al. 2016, arXiv:1510.03055, section 5.3)
    repeated_4     of a hundred runs of 4 words, how many stand there more than once

Both are means over the stories.
"""

import argparse
import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from benchmarks.endings import held_out_pairs
from bpe import Tokenizer
from bpe.command import CommandParser, UsageError, run_command, show
from bpe.progress import progress_bar
from data.documents import Pair
from model.language_model import LanguageModel
from model.loading import load
from model.story import Story
from model.story_settings import Sampling
from model.writing import in_turn

WORDS = 150
WORD = re.compile(r"\w+(?:'\w+)*")


def first_words(text: str) -> list[str]:
    """The first WORDS words of a text, in lower case."""
    return WORD.findall(text.lower())[:WORDS]


def runs(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """How often each run of n words stands there."""
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def distinct(words: Sequence[str], n: int) -> float:
    """The share of different runs of n words."""
    counts = runs(words, n)
    return len(counts) / counts.total() if counts else 1.0


def repeated(words: Sequence[str], n: int) -> float:
    """The share of runs of n words that stand there more than once."""
    counts = runs(words, n)
    return sum(times for times in counts.values() if times > 1) / counts.total() if counts else 0.0


def figures(stories: Sequence[Sequence[str]]) -> dict[str, float]:
    """The means over stories, given as words."""
    mean = {"words": statistics.mean(map(len, stories))}
    mean |= {f"distinct_{n}": 100 * statistics.mean(distinct(words, n) for words in stories) for n in (1, 2, 3)}
    mean["repeated_4"] = 100 * statistics.mean(repeated(words, 4) for words in stories)
    return {name: round(value, 2) for name, value in mean.items()}


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


def compare(pairs: Sequence[Pair], ways: Mapping[str, Callable[[str, int], Story]]) -> dict[str, dict[str, float]]:
    """The figures of people's stories, and of those of each way, a function from a prompt and a seed to a story."""
    rows = {"people": figures([first_words(pair.story) for pair in pairs])}
    with progress_bar(total=len(ways) * len(pairs), description="writing", unit="story") as bar:
        for name, way in ways.items():
            written = []
            for pieces in in_turn([way(pair.prompt, seed) for seed, pair in enumerate(pairs)]):
                written.append(first_words("".join(pieces)))
                bar.update()
            rows[name] = figures(written)
    return rows


def write(model: LanguageModel, tok: Tokenizer, sampling: Sampling, prompt: str, seed: int) -> Story:
    """A story long enough to count in."""
    return Story(model, tok, prompt, sampling=sampling, max_tokens=2 * WORDS, seed=seed)


def show_rows(rows: Mapping[str, Mapping[str, float]], stories: int, *, as_json: bool) -> None:
    """The figures as a table, or one JSON object."""
    if as_json:
        show(json.dumps({"stories": stories, "figures": rows}) + "\n")
        return
    show(f"the first {WORDS} words of {stories} stories\n")
    width = max(map(len, rows))
    show(" " * width + "".join(f"{column:>12}" for column in max(rows.values(), key=len)) + "\n")
    for name, row in rows.items():
        show(f"{name:<{width}}" + "".join(f"{value:12.2f}" for value in row.values()) + "\n")


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
