"""From logits to the next token.

In: the model's logits, (vocabulary,), and the story's latest tokens.  Out: a token id, the likeliest or one by chance.

The filters run in this order, which is also that of transformers, where they are, so that settings carry over:

    repeat penalty -> DRY -> temperature -> top-k -> top-p -> min-p -> one draw

Each filter sees what the one before it left, as a distribution of its own. The most likely token survives them all. The
end of a story stands outside: its probability is the model's own. All of it is NumPy, whose calls cost a quarter of
torch's: what is left after the first look is a handful of numbers.
"""

import math
from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bpe import Tokenizer
from model.errors import ModelError
from model.story_settings import Sampling

Logits = NDArray[np.float32] | NDArray[np.float64]

REPEAT_WINDOW = 64  # tokens, about four sentences: a name may come back after that for nothing
DRY_BASE = 1.75  # times as much is lost for each further token of a run, as its author set it, and
DRY_ALLOWED = 2  # so many tokens may stand there again for little
DRY_LONGEST = 40  # tokens of a run that count; what is lost by then is beyond all logits
DRY_BREAKS = '\n:"*'  # no run goes across a token with one of these: dialogue begins and ends alike every time


def next_token(
    logits: Tensor,
    recent: Sequence[int],
    sampling: Sampling,
    generator: torch.Generator,
    *,
    end: int | None = None,
    breaks: Collection[int] = (),
) -> int:
    """Choose the next token.

    logits: (vocabulary,), any dtype and device, -inf for tokens that must not come.
    recent: the story's tokens so far, of which the last REPEAT_WINDOW count for the repeat penalty, all for DRY. The
    prompt's do not: a story should be free to speak of what it was asked for.
    end: a token that comes as often as the model says, whatever temperature and filters make of the others. Those are
    for words: they take away what is rare at each single place, as the end of a story is, and a story would not end.
    A temperature of 0 takes the end, like any token, where it is the most likely.
    breaks: tokens that no run goes across (`breaks_of`).
    generator: on the CPU; one number is taken from it per token, so a story depends on its own seed alone.
    Raises ModelError when no logit is a finite number.
    """
    scores: Logits = logits.detach().float().cpu().numpy().copy()
    best = float(scores.max())
    if not math.isfinite(best):
        raise ModelError(
            "the model's output is not a number; load it with --dtype float32, or train it anew if that is no help"
        )
    ending = 0.0
    if end is not None and sampling.temperature > 0:
        ending = math.exp(float(scores[end]) - best) / float(np.exp(scores - best).sum())
    if recent and sampling.repeat_penalty != 1:
        penalise_repeats(scores, recent[-REPEAT_WINDOW:], sampling.repeat_penalty)
    if sampling.dry > 0:
        penalise_loops(scores, recent, sampling.dry, breaks)
    if sampling.temperature == 0:
        return int(scores.argmax())
    if 0.0 < ending < 1.0:
        scores[end] = -math.inf
    ids = within_reach(scores, sampling)
    weights = probabilities(scores[ids].astype(np.float64), sampling)
    if end is not None and 0.0 < ending < 1.0:
        ids, weights = np.append(ids, end), np.append(weights * (1.0 - ending), ending)
    return int(ids[draw(weights, generator)])


def penalise_repeats(logits: Logits, recent: Sequence[int], penalty: float) -> None:
    """Make recent tokens less likely, in place: positive logits are divided by the penalty, negative ones multiplied.

    logits: (vocabulary,); recent: ids; one that came twice counts once. However large the penalty, none is forbidden.
    Keskar et al. 2019 (CTRL), arXiv:1909.05858, section 4.1.
    """
    ids = np.array(recent)
    scores, least = logits[ids].astype(np.float64), float(np.finfo(logits.dtype).min) / 2
    with np.errstate(over="ignore"):
        penalised = np.where(scores > 0, scores / penalty, scores * penalty)
    logits[ids] = np.where(scores > -math.inf, np.maximum(penalised, least), scores)


def penalise_loops(logits: Logits, tokens: Sequence[int], strength: float, breaks: Collection[int] = ()) -> None:
    """Take from each token what it would lose by DRY, in place: `loss_by_dry` for the longest run that it goes on with.

    logits: (vocabulary,); tokens: of the story so far.
    DRY, "don't repeat yourself": p-e-w 2024, github.com/oobabooga/text-generation-webui/pull/5677.
    """
    story = np.array(tokens)
    longest: dict[int, int] = {}  # of a token: the run before it, like the one at the end
    ends = np.arange(len(story) - 1)
    for n in range(1, min(DRY_LONGEST, len(story)) + 1):
        if (last := int(story[-n])) in breaks:
            break
        ends = ends[ends >= n - 1]
        ends = ends[story[ends - (n - 1)] == last]
        if not len(ends):
            break
        if n >= DRY_ALLOWED:
            longest.update(dict.fromkeys(story[ends + 1].tolist(), n))
    for token, n in longest.items():
        logits[token] -= loss_by_dry(n, strength)


def loss_by_dry(n: int, strength: float) -> float:
    """What the logit of a token loses that goes on with a run of n tokens that stands there already."""
    return strength * DRY_BASE ** (n - DRY_ALLOWED) if n >= DRY_ALLOWED else 0.0


@lru_cache(maxsize=4)  # it looks at every token, and a command may ask for thousands of stories
def breaks_of(tok: Tokenizer) -> frozenset[int]:
    """The tokens that no run goes across: those with one of DRY_BREAKS in them."""
    marks = DRY_BREAKS.encode()
    return frozenset(token for token, text in enumerate(tok.token_bytes) if any(mark in text for mark in marks))


def longest_runs_by_definition(tokens: Sequence[int], breaks: Collection[int] = ()) -> dict[int, int]:
    """Of each token of a story how long a run before it is like the one at the end, DRY_LONGEST at most."""
    longest: dict[int, int] = {}
    for i in range(1, len(tokens)):
        n = 0
        while n < min(i, DRY_LONGEST) and tokens[i - 1 - n] == tokens[-1 - n] and tokens[-1 - n] not in breaks:
            n += 1
        longest[tokens[i]] = max(n, longest.get(tokens[i], 0))
    return longest


def within_reach(logits: Logits, sampling: Sampling) -> NDArray[np.intp]:
    """The ids, in order, of all tokens that the filters can leave, and perhaps of a few more; logits: (vocabulary,).

    Where min-p drops what lies far below the best logit, the others have a handful to look at, not the vocabulary. Not
    so with top-p, which comes first and counts all of them.
    """
    least = -math.inf
    if sampling.min_p > 0 and sampling.top_p == 1:
        best = float(logits.max())
        rounding = 4 * float(np.finfo(logits.dtype).eps) * (abs(best) + sampling.temperature)
        least = best + sampling.temperature * math.log(sampling.min_p) - rounding
    return np.flatnonzero(logits >= least)


def probabilities(logits: NDArray[np.float64], sampling: Sampling) -> NDArray[np.float64]:
    """The distribution to draw from, after temperature and filters; logits: (tokens,), and so is what is returned.

    Equal logits at the edge of top-p are kept by smaller id first, at the edge of top-k all of them.
    Top-k: Fan et al. 2018, arXiv:1805.04833; top-p: Holtzman et al. 2020, arXiv:1904.09751, section 3.1;
    min-p: Nguyen et al. 2025, arXiv:2407.01082, section 3.
    """
    # the best logit becomes 0 before the division, so that the smallest temperature overflows towards -inf alone
    with np.errstate(over="ignore"):
        logits = (logits - logits.max()) / sampling.temperature
    if 0 < sampling.top_k < len(logits):
        smallest_kept = np.partition(logits, -sampling.top_k)[-sampling.top_k]
        logits = np.where(logits < smallest_kept, -math.inf, logits)
    if sampling.top_p < 1:
        shares = normalised(logits)
        ordered = np.argsort(-shares, kind="stable")
        mass_before = np.cumsum(shares[ordered]) - shares[ordered]
        logits[ordered[mass_before >= sampling.top_p]] = -math.inf
    if sampling.min_p > 0:
        logits = np.where(logits < math.log(sampling.min_p), -math.inf, logits)  # the best logit is 0
    return normalised(logits)


def normalised(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax of logits of which the best is 0."""
    weights: NDArray[np.float64] = np.exp(logits)
    weights /= weights.sum()
    return weights


def draw(weights: NDArray[np.float64], generator: torch.Generator) -> int:
    """The place of one weight by chance, in proportion to it; one that is 0 never comes. weights: (tokens,).

    One uniform number is looked up in the running sum: the inverse of the distribution function.
    """
    places = np.flatnonzero(weights)
    running = np.cumsum(weights[places])
    uniform = float(torch.rand((), dtype=torch.float64, generator=generator))
    place = int(np.searchsorted(running, uniform * running[-1], side="right"))
    return int(places[min(place, len(places) - 1)])  # a product that rounds up to the whole sum is the last one


def probabilities_by_definition(
    logits: Sequence[float], recent: Sequence[int], sampling: Sampling, breaks: Collection[int] = ()
) -> dict[int, float]:
    """The definition of everything above but the draw: the ids that may come and their probabilities, one at a time.

    Slow on purpose, in plain Python; the tests trust it. The temperature must be above 0.
    """

    def shares(weights: dict[int, float]) -> dict[int, float]:
        total = math.fsum(weights.values())
        return {token: weight / total for token, weight in weights.items()}

    scores = list(logits)
    for token in set(recent[-REPEAT_WINDOW:]):
        scores[token] *= 1 / sampling.repeat_penalty if scores[token] > 0 else sampling.repeat_penalty
    for token, n in longest_runs_by_definition(recent, breaks).items():
        scores[token] -= loss_by_dry(n, sampling.dry)
    best_first = sorted(range(len(scores)), key=lambda token: (-scores[token], token))
    best = scores[best_first[0]]
    kept = {token: math.exp((scores[token] - best) / sampling.temperature) for token in best_first}
    if sampling.top_k:
        last = kept[best_first[min(sampling.top_k, len(scores)) - 1]]
        kept = {token: weight for token, weight in kept.items() if weight >= last}
    top, mass = dict[int, float](), 0.0
    for token, probability in shares(kept).items():
        if mass < sampling.top_p or sampling.top_p == 1:  # a sum may reach 1 by rounding before it is whole
            top[token] = probability
        mass += probability
    most = max(top.values())
    return shares({token: weight for token, weight in top.items() if weight >= sampling.min_p * most})
