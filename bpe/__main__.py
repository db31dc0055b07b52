"""`python -m bpe "text"`: how a run's tokenizer cuts a text.

In: a text and, if wished, a run's folder.  Out: the tokens and their ids on stdout.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bpe.command import CommandParser, run_command, show
from bpe.errors import BPEError
from bpe.show import shown_tokens
from bpe.tokenizer import Tokenizer

EXAMPLES = """\
  python -m bpe "The keeper's lamp went out."
  python -m bpe "The keeper's lamp went out." --run runs/sample
"""
RUNS = Path("runs")


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser("python -m bpe", "Show how a text is cut into tokens.", EXAMPLES)
    parser.add_argument("text", help="the text")
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="the run whose tokenizer to use (default: runs/story, else the newest)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("bpe", lambda: run(parser().parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    """Show the tokens of a text. Raises a UserError for what the user can put right."""
    tok = Tokenizer.load((newest_run() if args.run is None else args.run) / "tokenizer.json")
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    show(shown_tokens(tok, args.text, colour=colour) + "\n")


def newest_run() -> Path:
    """runs/story if it has a tokenizer, else the run with the newest one. Raises BPEError when there is none."""
    files = sorted(RUNS.glob("*/tokenizer.json"), key=lambda file: (file.parent.name == "story", file.stat().st_mtime))
    if not files:
        raise BPEError("no run here has a tokenizer; make one with `make story`, or name a folder with --run DIR")
    return files[-1].parent


if __name__ == "__main__":
    sys.exit(main())
