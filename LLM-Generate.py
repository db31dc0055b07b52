"""Write stories with a trained model: parse, load, write.

In: a prompt and how to sample.  Out: the story on stdout, as it is written, and nothing else; notes on stderr.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from bpe.command import CommandParser, UsageError, run_command, show

if TYPE_CHECKING:
    from model.story import Story

EXAMPLES = """\
  python LLM-Generate.py "A man in a sinking ship"
  python LLM-Generate.py "A woman hugging a child" --num 3 --seed 1 --temperature 0.9
  python LLM-Generate.py "The last lighthouse" --json > story.json
  python LLM-Generate.py --interactive
"""


def parser() -> CommandParser:
    """The options; the defaults of sampling are model/sampling.py's, and this file knows none of them but in words."""
    options = CommandParser(
        "LLM-Generate.py", "Write a story from a prompt with a model that LLM-BPE.py trained.", EXAMPLES
    )
    options.add_argument("prompt", nargs="*", help='what the story is about; "" leaves that to the model')
    options.add_argument(
        "--interactive", action="store_true", help="go on asking for prompts; :help lists what else it can do"
    )

    what = options.add_argument_group("what to write")
    what.add_argument("--num", type=int, default=1, metavar="N", help="stories; story i has seed S + i (default 1)")
    what.add_argument("--max-tokens", type=int, metavar="N", help="longest story, in tokens (default 2000)")
    what.add_argument("--json", action="store_true", help="one JSON object per story and line, when it is finished")

    how = options.add_argument_group("how to choose each token (in this order)")
    how.add_argument(
        "--repeat-penalty", type=float, metavar="R", help="make recent tokens less likely; 1: off (default 1.1)"
    )
    how.add_argument(
        "--temperature", type=float, metavar="T", help="0: always the likeliest; higher: bolder (default 0.8)"
    )
    how.add_argument("--top-k", type=int, metavar="K", help="keep the K likeliest; 0: off (default 0)")
    how.add_argument(
        "--top-p", type=float, metavar="P", help="keep the fewest that have probability P; 1: off (default 1)"
    )
    how.add_argument("--min-p", type=float, metavar="P", help="drop below P times the likeliest; 0: off (default 0.05)")
    how.add_argument("--seed", type=int, metavar="S", help="the same seed and settings write the same story")

    where = options.add_argument_group("which model, and where it runs")
    where.add_argument(
        "--run", metavar="DIR", help="a run's or a stage's folder (default runs/story, else the newest in runs)"
    )
    where.add_argument("--quantize", metavar="KIND", help="hold the weights in int8 or int4")
    where.add_argument("--device", help="cpu, cuda, mps (default: the best here)")
    where.add_argument("--dtype", help="float32, bfloat16 or float16 (default: float32 on a CPU)")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("LLM-Generate", lambda: run(parser().parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    """Do what the arguments ask. Raises a UserError for what the user can put right."""
    if not (args.prompt or args.interactive):
        raise UsageError('there is no prompt; give one, such as "A man in a sinking ship", or pass --interactive')
    if args.interactive and (args.json or args.num != 1):
        raise UsageError("--interactive writes one story at a time, as text; leave out --num and --json")
    if args.num < 1:
        raise UsageError(f"--num {args.num} asks for no story; pass 1 or more")

    from model.loading import default_run, find_stage, load  # torch takes a second: only now that the options are right
    from model.story import Story
    from model.story_settings import MAX_TOKENS, Sampling

    names = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty")
    sampling = Sampling(**{name: value for name in names if (value := getattr(args, name)) is not None})
    max_tokens = MAX_TOKENS if args.max_tokens is None else args.max_tokens
    folder = find_stage(default_run() if args.run is None else args.run)
    if args.run is None:
        note(f"the model is {folder}")
    model, tok = load(folder, args.device, args.dtype, args.quantize)
    prompt = as_utf8(" ".join(args.prompt))
    first = Story(model, tok, prompt, sampling=sampling, max_tokens=max_tokens, seed=args.seed)
    if args.interactive:
        from model.interactive import Session

        Session(model, tok, sampling=sampling, max_tokens=max_tokens, seed=first.seed, show=show).run(prompt)
        return
    stories = [first] + [
        Story(model, tok, prompt, sampling=sampling, max_tokens=max_tokens, seed=first.seed + i)
        for i in range(1, args.num)
    ]
    if first.prompt_cut:
        note(f"the prompt is too long for the model's context of {model.config.context} tokens; it was shortened")
    if args.seed is None:
        note(f"the seed is {first.seed}")
    for i, story in enumerate(stories):
        if args.json:
            show(json.dumps(described(story), ensure_ascii=False) + "\n")
            continue
        if i:
            show("\n---\n\n")
        for piece in story:
            show(piece)
        show("\n")


def described(story: "Story") -> dict[str, object]:
    """Write a story and tell all about it."""
    text = "".join(story)
    return {
        "prompt": story.prompt,
        "story": text,
        "seed": story.seed,
        "tokens": len(story.tokens),
        "seconds": round(story.seconds, 3),
        "stopped": story.stopped,
        "settings": asdict(story.sampling) | {"max_tokens": story.max_tokens},
    }


def note(text: str) -> None:
    """Tell the user something that is no story."""
    print(f"LLM-Generate: {text}", file=sys.stderr, flush=True)


def as_utf8(argument: str) -> str:
    """A prompt that was typed as UTF-8 in a locale of another encoding, as it was typed; any other unchanged."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError:
        return argument


if __name__ == "__main__":
    sys.exit(main())
