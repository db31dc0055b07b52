"""How many stories end by themselves.

    python -m benchmarks.endings DIR --pairs PATH [--num 30] [--max-tokens 2000] [--json]

In: a finetuned run and pairs.  Out: of one story for each of the first distinct held-out prompts, story i with seed i
and the sampling defaults, how many ended by the model's own end token, and how long they are.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from bpe.command import CommandParser, UsageError, run_command, show
from bpe.progress import progress_bar
from data.documents import Pair
from data.sources import pair_source
from model.loading import load
from model.originality import one_a_prompt
from model.story import Story
from model.story_settings import MAX_TOKENS
from model.writing import in_turn


def held_out_pairs(pairs: Path, num: int) -> list[Pair]:
    """The first `num` held-out pairs, in the files' order, one for each prompt.

    Raises UsageError where there is none, or none was asked for.
    """
    if num < 1:
        raise UsageError(f"--num {num} asks for no story; pass 1 or more")
    examples = pair_source(pairs, None, Path()).examples()
    found = one_a_prompt((pair for split, pair in examples if split == "valid"), num)
    if not found:
        raise UsageError(f"{pairs} has no held-out pairs; put some beside it as valid.wp_source and valid.wp_target")
    return found


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.endings",
        "How many stories on held-out prompts end by themselves.",
        "  python -m benchmarks.endings runs/story --pairs writingPrompts/ --num 100\n",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a run's folder, or its finetune stage's")
    parser.add_argument("--pairs", type=Path, required=True, metavar="PATH", help="pairs, for their held-out prompts")
    parser.add_argument("--num", type=int, default=30, metavar="N", help="stories (default 30)")
    parser.add_argument("--max-tokens", type=int, default=MAX_TOKENS, metavar="N", help="longest story (default 2000)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line")
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the stories and count. Raises a UserError for what the user can put right."""
    prompts = [pair.prompt for pair in held_out_pairs(args.pairs, args.num)]
    model, tok = load(args.folder)
    stories = [Story(model, tok, prompt, seed=i, max_tokens=args.max_tokens) for i, prompt in enumerate(prompts)]
    with progress_bar(total=len(stories), description="writing", unit="story") as bar:
        for pieces in in_turn(stories):
            "".join(pieces)
            bar.update()
    lengths = sorted(len(story.tokens) for story in stories)
    figures = {
        "stories": len(stories),
        "ended": sum(story.stopped == "end" for story in stories),
        "mean_tokens": round(statistics.mean(lengths), 1),
        "tokens": lengths,
    }
    if args.json:
        show(json.dumps(figures) + "\n")
        return
    show(
        f"{figures['ended']} of {figures['stories']} stories ended within {args.max_tokens:,} tokens; "
        f"{figures['mean_tokens']} tokens in the mean\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.endings", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
