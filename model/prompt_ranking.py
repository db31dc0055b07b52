"""How well a model knows which story belongs to which prompt, and how well it predicts a story word by word.

In: a model and held-out pairs.  Out: two figures that papers on WritingPrompts report.

Both are of the first WORDS whitespace words of a story as its file has it, `<newline>` counted as a word (Fan, Lewis
and Dauphin 2018, arXiv:1805.04833, sections 5 and 6). Word perplexity is e to the mean nats that a word takes, given
the prompt; of a story that ends within those words its end is predicted too, and not counted as a word. Prompt ranking
is the share of stories that take fewer nats after their own prompt than after each of OTHERS others; which ones, a seed
says. Both stories and prompts are numbered in the order of the file, prompts by their first story.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from bpe import Tokenizer
from bpe.progress import progress_bar
from data.batches import make_batch
from data.documents import Pair
from data.encoding import Example
from data.layout import max_header
from data.packing import PackedRows, pieces_of
from data.tokens import TokenFile, write_token_files
from data.writing_prompts import beginning_of_line
from model.hardware import matrix_products_in
from model.language_model import LanguageModel
from model.tensors import LOSS_CHUNK, MICRO_BATCH_TOKENS, micro_batches

WORDS = 1000
OTHERS = 9  # prompts besides a story's own
MOST_STORIES = 1000  # that are ranked
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How often the true prompt came first, and what is needed to do the same again."""

    share: float  # of stories; of prompts drawn at random it would be 1 / (OTHERS + 1)
    seed: int
    stories: list[int]  # which pairs, counted from 0
    others: list[list[int]]  # for each of them the numbers of the other prompts


def word_perplexity(model: LanguageModel, tok: Tokenizer, pairs: Sequence[Pair], dtype: torch.dtype) -> float:
    """Of all pairs together, each given its own prompt. Every pair has its line."""
    words = sum(min(WORDS, len(pair.line.split())) for pair in pairs)
    return math.exp(float(nats_of_each(model, tok, pairs, dtype, "word perplexity").sum()) / words)


def rank_prompts(model: LanguageModel, tok: Tokenizer, pairs: Sequence[Pair], dtype: torch.dtype) -> Ranking | None:
    """Rank for as many stories as there are, MOST_STORIES at most; None where there are too few different prompts."""
    prompts = list(dict.fromkeys(pair.prompt for pair in pairs))
    if len(prompts) <= OTHERS:
        return None
    number = {prompt: i for i, prompt in enumerate(prompts)}
    random = np.random.default_rng(SEED)
    stories = sorted(random.permutation(len(pairs))[:MOST_STORIES].tolist())
    others = [draw_others(random, number[pairs[story].prompt], len(prompts)) for story in stories]
    asked = [
        type(pairs[story])(prompts[prompt], pairs[story].story, line=pairs[story].line)
        for story, drawn in zip(stories, others, strict=True)
        for prompt in (number[pairs[story].prompt], *drawn)
    ]
    nats = nats_of_each(model, tok, asked, dtype, "prompt ranking").reshape(len(stories), 1 + OTHERS)
    first = nats[:, 0] < nats[:, 1:].min(axis=1)  # a model that does not look at the prompt ranks none first
    return Ranking(share=float(first.mean()), seed=SEED, stories=stories, others=others)


def draw_others(random: np.random.Generator, own: int, prompts: int) -> list[int]:
    """OTHERS different numbers below `prompts`, none of them `own`."""
    drawn: list[int] = random.choice(prompts - 1, OTHERS, replace=False).tolist()
    return [prompt + (prompt >= own) for prompt in drawn]


def nats_of_each(
    model: LanguageModel, tok: Tokenizer, pairs: Sequence[Pair], dtype: torch.dtype, purpose: str
) -> npt.NDArray[np.float64]:
    """The nats that the beginning of each pair's story takes after its prompt, with its end where it ends there."""
    examples = (asked_example(pair) for pair in pairs)
    ends = np.array([len(pair.line.split()) <= WORDS for pair in pairs])
    nats = np.zeros(len(pairs))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:  # Windows keeps what is memory-mapped
        file = write_token_files(examples, tok, Path(scratch), "asked", source="", splits=["valid"])["valid"]
        with progress_bar(total=int((file.lengths - file.headers).sum()), description=purpose, unit="tok") as bar:
            for documents, losses in losses_of(model, file, ends, dtype):
                nats += np.bincount(documents, losses, minlength=len(pairs))
                bar.update(len(losses))
    return nats


def asked_example(pair: Pair) -> Example:
    """The pair with the beginning of its story, of the same kind."""
    return "valid", type(pair)(pair.prompt, beginning_of_line(pair.line, WORDS))


@torch.no_grad()
def losses_of(
    model: LanguageModel, file: TokenFile, ends: npt.NDArray[np.bool_], dtype: torch.dtype
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """For one micro-batch after another, of every scored token the document it is of and its nats.

    ends: whether a document's last token, which is its end, is scored.
    """
    context, device = model.config.context, model.device
    headers = np.minimum(file.headers, max_header(context))
    lengths = file.lengths - (file.headers - headers) - ~ends
    sizes = zip(lengths.tolist(), headers.tolist(), strict=True)
    pieces = list(chain.from_iterable(pieces_of(i, *size, context) for i, size in enumerate(sizes)))
    taken = np.array([piece.size(int(headers[piece.document])) for piece in pieces], np.int64)
    packed = PackedRows(pieces, taken, context, (0,))
    rows_each = max(1, MICRO_BATCH_TOKENS[device.type] // context)
    model.eval()
    for start in range(0, len(packed), rows_each):
        rows = [packed[row] for row in range(start, min(start + rows_each, len(packed)))]
        batch = make_batch(file, rows, context)
        (part,) = micro_batches(batch, device)
        with matrix_products_in(dtype, device):
            hidden = model.hidden(part.inputs, positions=part.positions, segments=part.segments)[part.scored]
            targets = part.targets[part.scored]
            losses = [
                F.cross_entropy(model.logits(states), following, reduction="none")
                for states, following in zip(
                    torch.split(hidden, LOSS_CHUNK), torch.split(targets, LOSS_CHUNK), strict=True
                )
            ]
        documents = np.concatenate(
            [np.repeat(piece.document, piece.stop - piece.scored_from + 1) for row in rows for piece in row]
        )
        yield documents, torch.cat(losses).double().cpu().numpy()
