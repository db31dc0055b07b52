"""`python -m bpe`: how a tokenizer cuts a text, how it builds a word, and how one is learned.

In: a text, and if wished a run's folder; or a small text file.  Out: tokens, ids and merges on stdout.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bpe.command import CommandParser, UsageError, run_command, show
from bpe.errors import BPEError, FileError
from bpe.explain import explained
from bpe.first_merges import first_merges
from bpe.show import shown_tokens
from bpe.tokenizer import Tokenizer

EXAMPLES = """\
  python -m bpe "The keeper's lamp went out."
  python -m bpe "The keeper's lamp went out." --run runs/sample
  python -m bpe --explain " keeper"             the merges that build the word, in order
  python -m bpe --train story.txt --merges 50   the first merges that a text teaches
"""
RUNS = Path("runs")
SHOWN_MERGES = 20


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m bpe", "Show how a text is cut into tokens, how a word is built, or how merges are learned.", EXAMPLES
    )
    parser.usage = "python -m bpe (TEXT | --explain WORD | --train FILE [--merges N]) [--run DIR]"
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("text", metavar="TEXT", nargs="?", help="the text to cut into tokens")
    what.add_argument("--explain", metavar="WORD", help="show the merges that build a word, in order")
    what.add_argument("--train", metavar="FILE", help="show the first merges learned from a small text; -: from stdin")
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="the run whose tokenizer to use (default: runs/story, else the newest)"
    )
    parser.add_argument("--merges", type=int, metavar="N", help=f"with --train: how many (default {SHOWN_MERGES})")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("bpe", lambda: run(parser().parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    """Show what is asked for. Raises a UserError for what the user can put right."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for line in lines(args, colour=colour):
        show(line + "\n")


def lines(args: argparse.Namespace, *, colour: bool) -> Iterator[str]:
    """What is asked for, line by line. Raises a UserError for what the user can put right."""
    if args.train is not None:
        if args.run is not None:
            raise UsageError("--train learns from its file alone; leave out --run")
        number = SHOWN_MERGES if args.merges is None else args.merges
        if number < 1:
            raise UsageError(f"{number} merges cannot be shown; ask for 1 or more with --merges")
        return first_merges(text_of(args.train), number, colour=colour)
    if args.merges is not None:
        raise UsageError("--merges goes with --train, and a tokenizer has all its merges already; leave it out")
    tok = Tokenizer.load((newest_run() if args.run is None else args.run) / "tokenizer.json")
    if args.explain is not None:
        return explained(tok, args.explain, colour=colour)
    return iter([shown_tokens(tok, args.text, colour=colour)])


def text_of(file: str) -> str:
    """The text of a file, of stdin if it is called -, with LF line ends. Raises FileError for what is no UTF-8 text."""
    try:
        with open(0 if file == "-" else file, encoding="utf-8-sig", closefd=file != "-") as stream:
            return stream.read()
    except OSError as error:
        raise FileError(f"cannot read {file}: {error.strerror or error}; check its name and permissions") from error
    except UnicodeDecodeError as error:
        raise FileError(
            f"cannot read {file}: at byte {error.start} it is not UTF-8; save it as UTF-8, or name a text file"
        ) from error


def newest_run() -> Path:
    """runs/story if it has a tokenizer, else the run with the newest one. Raises BPEError when there is none."""
    files = sorted(RUNS.glob("*/tokenizer.json"), key=lambda file: (file.parent.name == "story", file.stat().st_mtime))
    if not files:
        raise BPEError("no run here has a tokenizer; make one with `make story`, or name a folder with --run DIR")
    return files[-1].parent


if __name__ == "__main__":
    sys.exit(main())
