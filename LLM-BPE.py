"""Train a run: its tokenizer, its pretrained model, its finetuned model.

In: options.  Out: a folder with everything of the run (model/stages.py). This file parses, calls and reports.
"""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bpe.command import CommandParser, run_command
from model.config import PRESETS

EXAMPLES = """\
  python LLM-BPE.py --stage pretrain                             about 100 Project Gutenberg books, downloaded once
  python LLM-BPE.py --stage finetune                             then Reddit WritingPrompts, downloaded once
  python LLM-BPE.py --stage all --dataset sample --run runs/sample --minutes 4      no download, a few minutes
  python LLM-BPE.py --stage pretrain --texts my_books/ --preset small --minutes 20  your own texts
  torchrun --nproc-per-node 2 -- LLM-BPE.py --stage pretrain     on two GPUs, or two machines (see torchrun)
"""


def parser() -> CommandParser:
    """The options; what was not given is None, and then model/plan.py or the run itself decides."""
    parser = CommandParser(
        "LLM-BPE.py",
        "Train a tokenizer, pretrain a transformer on books, finetune it on (prompt, story) pairs.",
        EXAMPLES,
    )
    parser.add_argument(
        "--stage", required=True, choices=("tokenizer", "pretrain", "finetune", "all"), help="what to do"
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="where everything of this run goes (default runs/story)"
    )
    parser.add_argument(
        "--from", dest="start_from", type=Path, metavar="DIR", help="finetune another run's model, or a model's folder"
    )
    parser.add_argument("--restart", action="store_true", default=None, help="begin the stage anew instead of going on")

    data = parser.add_argument_group("data")
    data.add_argument(
        "--texts",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="folders, .txt, .md, .txt.gz, .txt.xz, .zip, .tar.gz, .tar.xz of books",
    )
    data.add_argument(
        "--pairs", type=Path, metavar="PATH", help="folder with train/valid .wp_source/.wp_target (plain or .xz)"
    )
    data.add_argument(
        "--dataset", metavar="NAME", help="gutenberg, tinystories, writingprompts or sample, instead of paths"
    )
    data.add_argument("--downloads", type=Path, metavar="DIR", help="where downloads are kept (default downloads)")

    end = parser.add_argument_group("when to end (one of them; default: what this machine can do well)")
    end.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="train the best model it can in M minutes, downloads not counted (of --stage all: pretraining two thirds)",
    )
    end.add_argument("--steps", type=int, metavar="N", help="train for N optimizer steps")
    end.add_argument("--tokens", type=int, metavar="N", help="train on N tokens")

    shape = parser.add_argument_group("model")
    shape.add_argument(
        "--preset", metavar="NAME", help=f"{', '.join(PRESETS)} (default: what fits the time, else story)"
    )
    for name, meaning in (
        ("layers", "blocks"),
        ("width", "channels of the residual stream"),
        ("heads", "attention heads"),
        ("context", "tokens a prediction can look back on"),
        ("vocab-size", "tokens in the vocabulary, bytes and special tokens included"),
    ):
        shape.add_argument(f"--{name}", type=int, metavar="N", help=meaning)

    how = parser.add_argument_group("training")
    how.add_argument("--device", metavar="NAME", help="cuda, mps or cpu (default: the best one here)")
    how.add_argument(
        "--dtype", metavar="NAME", help="bfloat16, float16 or float32 (default: the fastest sound one here)"
    )
    how.add_argument("--seed", type=int, metavar="S", help="of weights, batches and dropout (default 0)")
    how.add_argument("--batch-tokens", type=int, metavar="N", help="tokens in one optimizer step")
    how.add_argument("--lr", type=float, metavar="R", help="peak learning rate of Muon; AdamW's is a fixed share of it")
    how.add_argument("--save-every", type=int, metavar="N", help="optimizer steps between saves")
    how.add_argument("--eval-every", type=int, metavar="N", help="optimizer steps between held-out evaluations")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("LLM-BPE", lambda: run(argv))


def run(argv: Sequence[str] | None) -> None:
    """Do what the options ask. Raises a UserError for what the user can put right, KeyboardInterrupt after saving."""
    level = logging.WARNING
    if os.environ.get("RANK", "0") != "0":  # one of several processes (model/parallel.py), and not the one that speaks
        from model.parallel import join, rank

        join()  # once the first process is there too, what was asked for has passed its checks
        level = logging.ERROR if rank() else logging.WARNING
    options: dict[str, Any] = vars(parser().parse_args(argv))
    from model.request import Request  # torch takes a second to import; wrong options are refused before
    from model.stages import run_stages

    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    stage = options.pop("stage")
    given = {name: value for name, value in options.items() if value is not None}
    if "texts" in given:
        given["texts"] = tuple(given["texts"])
    run_stages(stage, Request(**given))


if __name__ == "__main__":
    sys.exit(main())
