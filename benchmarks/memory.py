"""How much memory a large corpus takes: what benchmarks/prepare.py measures, on a file of a gigabyte.

    python -m benchmarks.memory --texts PATH... [--megabytes 1000] [--json]

In: texts, as for LLM-BPE.py.  Out: the figures of benchmarks/prepare.py for one file of that size, made of the texts'
paragraphs, shuffled anew each time they are used up. It lies in a temporary folder (TMPDIR says where).
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bpe.command import CommandParser, run_command
from data.documents import read_texts

MB = 1_000_000


def write_shuffled(file: Path, texts: Sequence[Path], num_bytes: int) -> None:
    """Write so many bytes, or a paragraph more. The texts' paragraphs are held in memory."""
    paragraphs = [part.encode() for document in read_texts(texts) for part in document.text.split("\n\n")]
    chance = random.Random(0)
    with file.open("wb") as out:
        while True:
            chance.shuffle(paragraphs)
            for paragraph in paragraphs:
                out.write(paragraph + b"\n\n")
                if out.tell() >= num_bytes:
                    return


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.memory",
        "Memory and time for a large corpus.",
        "  python -m benchmarks.memory --texts $BOOKS\n",
    )
    parser.add_argument("--texts", nargs="+", type=Path, required=True, help="folders, files or archives of plain text")
    parser.add_argument("--megabytes", type=int, default=1000, metavar="N", help="size of the corpus (default 1000)")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print. Raises a UserError for what the user can put right."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "shuffled.txt"
        write_shuffled(file, args.texts, args.megabytes * MB)
        command = [sys.executable, "-m", "benchmarks.prepare", "--texts", str(file)]  # a process that holds nothing yet
        done = subprocess.run(
            [*command, "--json"] if args.json else command,
            env=os.environ | {"TMPDIR": folder},  # what it leaves when it is killed goes with our own folder
            check=False,
        )
    if done.returncode:  # it has said why
        raise SystemExit(done.returncode)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.memory", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
