"""`python -m bpe "text"`: how a run's tokenizer cuts a text.

In: a text and, if wished, a run's folder.  Out: the tokens and their ids on stdout.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bpe.errors import BPEError, UserError
from bpe.show import shown_tokens
from bpe.tokenizer import Tokenizer

RUNS = Path("runs")


def main(argv: Sequence[str] | None = None) -> int:
    """Show the tokens of a text; returns the exit status, 2 for what the user can put right."""
    parser = argparse.ArgumentParser(prog="python -m bpe", description="Show how a text is cut into tokens.")
    parser.add_argument("text", help="the text")
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="the run whose tokenizer to use (default: runs/story, else the newest)"
    )
    args = parser.parse_args(argv)
    try:
        tok = Tokenizer.load((args.run or newest_run()) / "tokenizer.json")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        print(shown_tokens(tok, args.text, colour=colour))
    except UserError as error:
        print(f"bpe: {error}", file=sys.stderr)
        return 2
    return 0


def newest_run() -> Path:
    """runs/story if it has a tokenizer, else the run with the newest one. Raises BPEError when there is none."""
    files = sorted(RUNS.glob("*/tokenizer.json"), key=lambda file: (file.parent.name == "story", file.stat().st_mtime))
    if not files:
        raise BPEError("no run here has a tokenizer; make one with `make story`, or name a folder with --run DIR")
    return files[-1].parent


if __name__ == "__main__":
    sys.exit(main())
