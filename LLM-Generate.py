"""Write stories with a trained model: parse, load, write.

In: prompts and how to sample.  Out: the stories on stdout, as they are written, and nothing else; notes on stderr.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bpe.command import CommandParser, UsageError, run_command, show
from model.ending import ENDINGS, FINISH
from model.story_settings import MAX_TOKENS, Sampling, check_limits

if TYPE_CHECKING:
    from bpe import Tokenizer
    from model.language_model import LanguageModel

EXAMPLES = """\
  python LLM-Generate.py "A man in a sinking ship"
  python LLM-Generate.py "A woman hugging a child" --num 3 --seed 1 --temperature 0.9
  python LLM-Generate.py "The last lighthouse" --max-tokens 200 --json > story.json
  python LLM-Generate.py --prompt-file prompts.txt > stories.txt
  python LLM-Generate.py --interactive
"""
MOST = 10_000  # stories: each takes some memory before the first is written
FILTERS = {  # fields of Sampling, in the order in which they are applied
    "repeat_penalty": ("R", "make recent tokens less likely; 1: off"),
    "dry": ("R", "make what repeats a run of tokens the less likely the longer it is; 0: off"),
    "temperature": ("T", "0: always the likeliest; higher: bolder"),
    "top_k": ("K", "keep the K likeliest; 0: off"),
    "top_p": ("P", "keep the fewest that have probability P; 1: off"),
    "min_p": ("P", "drop below P times the likeliest; 0: off"),
}


def parser() -> CommandParser:
    """The options."""
    options = CommandParser(
        "LLM-Generate.py", "Write a story from a prompt with a model that LLM-BPE.py trained.", EXAMPLES
    )
    options.add_argument("prompt", nargs="*", help='what the story is about; "" leaves that to the model')
    options.add_argument(
        "--prompt-file", metavar="FILE", help="write a story for every line of FILE, below its prompt; - is stdin"
    )
    options.add_argument(
        "--interactive", action="store_true", help="a writing session; :help lists what it can do besides stories"
    )

    what = options.add_argument_group("what to write")
    what.add_argument(
        "--num",
        type=int,
        default=1,
        metavar="N",
        help="stories for each prompt; the first has seed S, the next S + 1, and so on through all prompts (default 1)",
    )
    what.add_argument(
        "--max-tokens", type=int, default=MAX_TOKENS, metavar="N", help="longest story, in tokens (default %(default)s)"
    )
    what.add_argument(
        "--ending",
        choices=ENDINGS,
        default=ENDINGS[0],
        metavar="HOW",
        help=f"what becomes of the sentence at that limit: finish (it may take {FINISH} tokens more), trim (it is left "
        "out) or cut (default %(default)s)",
    )
    what.add_argument("--json", action="store_true", help="one JSON object per story and line, when it is finished")

    how = options.add_argument_group("how to choose each token (in this order)")
    for name, (metavar, meaning) in FILTERS.items():
        value = getattr(Sampling(), name)
        how.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(value),
            default=value,
            metavar=metavar,
            help=f"{meaning} (default {value:g})",
        )
    how.add_argument("--seed", type=int, metavar="S", help="the same seed and settings write the same story")

    where = options.add_argument_group("which model, and where it runs")
    where.add_argument(
        "--run", metavar="DIR", help="a run's or a stage's folder (default runs/story, else the newest in runs)"
    )
    where.add_argument("--quantize", metavar="KIND", help="hold the weights in int8 or int4")
    where.add_argument("--device", help="cpu, cuda, mps (default: the best here)")
    where.add_argument(
        "--dtype", help="of the weights: float32, bfloat16 or float16 (default: the fastest here; on most CPUs float16)"
    )
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("LLM-Generate", lambda: run(parser().parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    """Do what the arguments ask. Raises a UserError for what the user can put right."""
    if not (args.prompt or args.prompt_file or args.interactive):
        raise UsageError(
            'there is no prompt; give one, such as "A man in a sinking ship", or pass --prompt-file or --interactive'
        )
    if args.prompt_file and (args.prompt or args.interactive):
        raise UsageError("--prompt-file brings the prompts; leave out --interactive and a prompt of your own")
    if args.interactive and (args.json or args.num != 1):
        raise UsageError("--interactive writes one story at a time, as text; leave out --num and --json")
    if not 1 <= args.num <= MOST:
        raise UsageError(f"--num {args.num} is not from 1 to {MOST:,}; for more, run it again with another --seed")
    sampling = Sampling(**{name: getattr(args, name) for name in FILTERS})
    check_limits(max_tokens=args.max_tokens, seed=args.seed)

    # torch takes a second: only now that the options are right
    from model.hardware import naming_want_of_memory, pick_device
    from model.loading import default_run, find_stage, load
    from model.writing import prompts_in

    prompts = prompts_in(args.prompt_file) if args.prompt_file else [as_utf8(" ".join(args.prompt))]
    if len(prompts) * args.num > MOST:
        raise UsageError(
            f"{len(prompts):,} prompts with --num {args.num} ask for more than {MOST:,} stories at once; "
            "split the file, or lower --num"
        )
    folder = find_stage(default_run() if args.run is None else args.run)
    if args.run is None or folder.name == "pretrain":  # which only goes on with the prompt
        note(f"the model is {folder}")
    device = pick_device(args.device)
    with naming_want_of_memory(device, "pass --quantize int8, fewer stories, or another --device"):
        model, tok = load(folder, args.device, args.dtype, args.quantize)
        with waiting_explained(model):
            write(args, sampling, model, tok, prompts)


def write(
    args: argparse.Namespace, sampling: Sampling, model: "LanguageModel", tok: "Tokenizer", prompts: list[str]
) -> None:
    """Write the stories, or with --interactive what the user asks for."""
    from model.story import Story
    from model.writing import show_records, show_stories

    how: dict[str, Any] = {"sampling": sampling, "max_tokens": args.max_tokens, "ending": args.ending}
    first = Story(model, tok, prompts[0], seed=args.seed, **how)
    if args.interactive:
        from model.interactive import Session

        Session(model, tok, seed=first.seed, show=show, **how).run(first.prompt)
        return
    wanted = [prompt for prompt in prompts for _ in range(args.num)]
    stories = [Story(model, tok, prompt, seed=first.seed + i, **how) for i, prompt in enumerate(wanted)]
    if cut := sum(story.prompt_cut for story in stories[:: args.num]):
        what = "the prompt is" if len(prompts) == 1 else f"{cut} of {len(prompts)} prompts are"
        note(f"{what} too long and shortened: there is room for {first.room:,} tokens of a prompt")
    if args.seed is None:
        note(f"the seed is {first.seed}")
    if args.json:
        show_records(stories, show)
    else:
        show_stories(stories, show, prompts=args.prompt_file is not None)


@contextmanager
def waiting_explained(model: "LanguageModel") -> Iterator[None]:
    """Say so when loops are compiled in the block, for which the first story on a machine waits."""
    if getattr(model, "one_token", None) is None:
        yield
        return
    from model.loops import when_compiling

    with when_compiling(lambda: note("compiling the loops that write; some seconds, the first time only")):
        yield


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
