"""The command that scores a trained stage on texts or on (prompt, story) pairs.

In: a stage's folder and held-out text.  Out: bits per byte, of pairs word perplexity and prompt ranking, too
(model/prompt_ranking.py), and of stories that it writes how original they are (model/originality.py), on stdout, for
people or as JSON.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from bpe.command import CommandParser, run_command, show
from data.batches import HeldOut
from data.documents import Pair, read_texts
from data.encoding import Example, PlainPair
from data.errors import DataError
from data.sources import pair_source
from data.tokens import write_token_files
from model.errors import ConfigError
from model.evaluate import evaluate
from model.hardware import naming_want_of_memory, pick_device, pick_dtype
from model.language_model import LanguageModel
from model.loading import find_stage, load, load_stage
from model.originality import compare, documents_of, one_a_prompt, open_training_texts, table, write
from model.prompt_ranking import OTHERS, Ranking, rank_prompts, word_perplexity
from model.story_settings import Sampling
from model.tensors import MICRO_BATCH_TOKENS

_log = logging.getLogger("model")

EXAMPLES = """\
  python -m model.evaluate runs/story/pretrain --texts held_out_books/
  python -m model.evaluate runs/story/finetune --pairs writingPrompts/ --json
  python -m model.evaluate runs/story/finetune --pairs writingPrompts/ --stories 100    how original its stories are
  python -m model.evaluate runs/story/finetune --pairs writingPrompts/ --quantize int4   what few bits cost
  python -m model.evaluate runs/story/pretrain --pairs writingPrompts/     the prompt as plain text before the story
"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was scored and what came of it."""

    model: str
    parameters: int
    text: str
    documents: int
    tokens: int
    bytes: int
    bits_per_byte: float
    nats_per_token: float
    word_perplexity: float | None = None  # of pairs
    prompt_ranking: Ranking | None = None  # of pairs with prompts enough
    stories: int | None = None  # written, on held-out prompts
    originality: dict[str, dict[str, float]] | None = None  # of people's stories and of those


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m model.evaluate",
        "Score a trained model on held-out text: bits per byte; of pairs word perplexity and prompt ranking, too.",
        EXAMPLES,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a stage's folder, or a run's")
    parser.add_argument("--texts", type=Path, nargs="+", metavar="PATH", help="texts; all of them are scored")
    parser.add_argument("--pairs", type=Path, metavar="PATH", help="pairs; the held-out split of them is scored")
    parser.add_argument(
        "--stories",
        type=int,
        metavar="N",
        help="write so many, on held-out prompts of --pairs, and count what repeats itself and what is copied",
    )
    parser.add_argument("--device", metavar="NAME", help="cuda, mps or cpu (default: the best one here)")
    parser.add_argument("--dtype", metavar="NAME", help="of matrix products (default: the fastest sound one here)")
    parser.add_argument("--quantize", metavar="KIND", help="hold the weights in int8 or int4, as LLM-Generate.py can")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("model.evaluate", lambda: run(parser().parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    """Score what the arguments name and print the figures. Raises a UserError for what the user can put right."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    with naming_want_of_memory(pick_device(args.device), "pass --device cpu, or score it on another machine"):
        figures = score_folder(
            args.folder,
            args.texts,
            args.pairs,
            stories=args.stories,
            device=args.device,
            dtype=args.dtype,
            quantize=args.quantize,
        )
    if args.json:
        show(json.dumps(asdict(figures)) + "\n")
        return
    show(
        f"{figures.bits_per_byte:.4f} bits per byte, {figures.nats_per_token:.4f} nats per token\n"
        f"{figures.model} ({figures.parameters:,} parameters) on {figures.text}: {figures.documents:,} documents, "
        f"{figures.tokens:,} tokens, {figures.bytes:,} bytes\n"
    )
    if figures.word_perplexity is not None:
        show(f"word perplexity {figures.word_perplexity:.2f}\n")
    if (ranking := figures.prompt_ranking) is not None:
        show(
            f"the true prompt before {OTHERS} others for {ranking.share:.1%} of {len(ranking.stories):,} stories "
            f"(seed {ranking.seed}; --json lists them)\n"
        )
    if figures.originality is not None and figures.stories is not None:
        show(table(figures.originality, figures.stories))


def score_folder(
    folder: Path,
    texts: Sequence[Path] | None,
    pairs: Path | None,
    *,
    stories: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    quantize: str | None = None,
) -> Figures:
    """Score the model of a folder on texts or on pairs. Raises a UserError that names what is wrong.

    stories: how many to write and to count in. dtype: of matrix products; those with weights of few bits (quantize) are
    what they are.
    """
    if (texts is None) == (pairs is None):
        raise ConfigError("pass --texts or --pairs, one of them: what to score the model on")
    if stories is not None and (pairs is None or stories < 1):
        raise ConfigError(f"--stories {stories} needs --pairs, for prompts, and one story or more")
    if quantize is None:
        model, tok = load_stage(folder, device, "float32")
    else:
        model, tok = load(folder, device, "float32", quantize)
    name, examples = what_to_score(model, texts, pairs)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:  # Windows keeps what is memory-mapped
        files = write_token_files(examples(), tok, Path(scratch), "scored", source="", splits=["valid"])
        context = model.config.context
        rows = max(1, MICRO_BATCH_TOKENS[model.device.type] // context)
        held_out = HeldOut(files["valid"], tok, context=context, rows=rows)
        products = pick_dtype(dtype, model.device)
        score = evaluate(model, held_out, products, progress=True)
    held_out_pairs = (
        [pair for split, pair in examples() if split == "valid" and isinstance(pair, Pair)] if pairs else []
    )
    prompted = one_a_prompt(held_out_pairs, stories) if stories else []
    return Figures(
        model=str(find_stage(folder)),
        parameters=model.num_parameters,
        text=name,
        documents=len(files["valid"]),
        tokens=score.num_tokens,
        bytes=score.num_bytes,
        bits_per_byte=score.bits_per_byte,
        nats_per_token=score.nats_per_token,
        word_perplexity=word_perplexity(model, tok, held_out_pairs, products) if held_out_pairs else None,
        prompt_ranking=rank_prompts(model, tok, held_out_pairs, products) if held_out_pairs else None,
        stories=len(prompted) or None,
        originality=originality(folder, prompted, device, dtype, quantize) if prompted else None,
    )


def originality(
    folder: Path, pairs: Sequence[Pair], device: str | None, dtype: str | None, quantize: str | None
) -> dict[str, dict[str, float]]:
    """The figures of people's stories and of those that the model writes for their prompts, as it writes for a person.

    Where the run's token files are gone, they are without what is copied.
    """
    model, tok = load(folder, device, dtype, quantize)
    texts = None
    try:
        texts = documents_of(open_training_texts(find_stage(folder), model.stage, tok), tok)
    except DataError as error:
        _log.warning("what stories copy is not counted: %s", error)
    return compare(pairs, {"model": partial(write, model, tok, Sampling())}, texts)


def what_to_score(
    model: LanguageModel, texts: Sequence[Path] | None, pairs: Path | None
) -> tuple[str, Callable[[], Iterator[Example]]]:
    """A name, and the examples: all texts; of pairs the held-out ones, in the layout that the model knows."""
    if texts is not None:
        return ", ".join(map(str, texts)), lambda: (("valid", document) for document in read_texts(texts))
    source = pair_source(pairs, None, Path())
    if model.stage == "pretrain":
        return f"{source.name}, prompts as plain text", lambda: (
            (split, PlainPair(pair.prompt, pair.story, pair.tag, pair.line)) for split, pair in source.examples()
        )
    return source.name, lambda: iter(source.examples())
