"""From logits to the next token.

In: the model's logits (..., vocabulary) and the story's latest tokens.  Out: a token id, by greedy choice or by chance.

The filters run in this order, which is also that of transformers, so that settings carry over:

    repeat penalty -> temperature -> top-k -> top-p -> min-p -> one draw

Each filter sees what the one before it left, as a distribution of its own. The most likely token survives them all. The
end of a story stands outside: its probability is the model's own.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from model.errors import ModelError
from model.story_settings import Sampling

REPEAT_WINDOW = 64  # tokens, about four sentences: loops are shorter, and a name may come back after that for nothing


def next_token(
    logits: Tensor, recent: Sequence[int], sampling: Sampling, generator: torch.Generator, *, end: int | None = None
) -> int:
    """Choose the next token.

    logits: (vocabulary,), any dtype and device, -inf for tokens that must not come.
    recent: the story's tokens so far, of which the last REPEAT_WINDOW count. The prompt's do not: a story should be
    free to speak of what it was asked for.
    end: a token that comes as often as the model says, whatever temperature and filters make of the others. Those are
    for words: they take away what is rare at each single place, as the end of a story is, and a story would not end.
    A temperature of 0 takes the end, like any token, where it is the most likely.
    generator: on the CPU; one number is taken from it per token, so a story depends on its own seed alone.
    Raises ModelError when no logit is a finite number.
    """
    logits = logits.cpu().to(torch.float64, copy=True)  # some devices have no float64
    ending = 0.0 if end is None else float(logits.softmax(-1)[end])
    if recent and sampling.repeat_penalty != 1:
        logits = penalise_repeats(logits, torch.tensor(recent[-REPEAT_WINDOW:]), sampling.repeat_penalty)
    best = float(logits.amax())
    if not math.isfinite(best):
        raise ModelError(
            "the model's output is not a number; load it with --dtype float32, or train it anew if that is no help"
        )
    if sampling.temperature == 0:
        return int(logits.argmax())
    if end is not None and ending < 1.0:
        logits[end] = -math.inf
        best = float(logits.amax())
    ids = within_reach(logits, best, sampling)
    weights = probabilities(logits[ids], sampling)
    if 0.0 < ending < 1.0:
        ids = torch.cat((ids, torch.tensor([end])))
        weights = torch.cat((weights * (1.0 - ending), torch.tensor([ending], dtype=weights.dtype)))
    return int(ids[draw(weights, generator)])


def penalise_repeats(logits: Tensor, recent: Tensor, penalty: float) -> Tensor:
    """Make recent tokens less likely: positive logits are divided by the penalty, negative ones multiplied.

    logits: (..., vocabulary); recent: ids (..., n); returns logits' shape. A token that came twice counts once.
    Keskar et al. 2019 (CTRL), arXiv:1909.05858, section 4.1.
    """
    scores = logits.gather(-1, recent)
    return logits.scatter(-1, recent, torch.where(scores > 0, scores / penalty, scores * penalty))


def within_reach(logits: Tensor, best: float, sampling: Sampling) -> Tensor:
    """The ids, in order, of all tokens that the filters can leave, and perhaps of a few more; logits: (vocabulary,).

    Where min-p drops what lies far below the best logit, the others have a handful to look at, not the vocabulary. Not
    so with top-p, which comes first and counts all of them.
    """
    least = -math.inf
    if sampling.min_p > 0 and sampling.top_p == 1:
        rounding = 1e-9 * (abs(best) + sampling.temperature)
        least = best + sampling.temperature * math.log(sampling.min_p) - rounding
    return (logits > least).nonzero().squeeze(-1)


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """The distribution to draw from, after temperature and filters; logits (..., vocabulary) in, the same shape out.

    Equal logits at the edge of top-p are kept by smaller id first, at the edge of top-k all of them.
    Top-k: Fan et al. 2018, arXiv:1805.04833; top-p: Holtzman et al. 2020, arXiv:1904.09751, section 3.1;
    min-p: Nguyen et al. 2025, arXiv:2407.01082, section 3.
    """
    # the best logit becomes 0 before the division, so that the smallest temperature overflows towards -inf alone
    logits = (logits - logits.amax(-1, keepdim=True)) / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        smallest_kept = logits.topk(sampling.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest_kept, -math.inf)
    if sampling.top_p < 1:
        ordered, ids = logits.softmax(-1).sort(descending=True, stable=True)
        mass_before = ordered.cumsum(-1) - ordered
        dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, ids, mass_before >= sampling.top_p)
        logits = logits.masked_fill(dropped, -math.inf)
    if sampling.min_p > 0:
        logits = logits.masked_fill(logits < math.log(sampling.min_p), -math.inf)  # the best logit is 0
    return logits.softmax(-1)


def draw(weights: Tensor, generator: torch.Generator) -> int:
    """One id by chance, in proportion to its weight (vocabulary,); ids of weight 0 never come.

    One uniform number is looked up in the running sum: the inverse of the distribution function, in float64.
    """
    ids = weights.nonzero().squeeze(-1)
    running = weights[ids].double().cumsum(-1)
    uniform = torch.rand((), dtype=torch.float64, generator=generator)
    place = torch.searchsorted(running, uniform * running[-1], right=True)
    return int(ids[min(int(place), len(ids) - 1)])  # a product that rounds up to the whole sum is the last id


def probabilities_by_definition(logits: Sequence[float], recent: Sequence[int], sampling: Sampling) -> dict[int, float]:
    """The definition of everything above but the draw: the ids that may come and their probabilities, one at a time.

    Slow on purpose, in plain Python; the tests trust it. The temperature must be above 0.
    """

    def normalised(weights: dict[int, float]) -> dict[int, float]:
        total = math.fsum(weights.values())
        return {token: weight / total for token, weight in weights.items()}

    scores = list(logits)
    for token in set(recent[-REPEAT_WINDOW:]):
        scores[token] *= 1 / sampling.repeat_penalty if scores[token] > 0 else sampling.repeat_penalty
    best_first = sorted(range(len(scores)), key=lambda token: (-scores[token], token))
    best = scores[best_first[0]]
    kept = {token: math.exp((scores[token] - best) / sampling.temperature) for token in best_first}
    if sampling.top_k:
        last = kept[best_first[min(sampling.top_k, len(scores)) - 1]]
        kept = {token: weight for token, weight in kept.items() if weight >= last}
    top, mass = dict[int, float](), 0.0
    for token, probability in normalised(kept).items():
        if mass < sampling.top_p or sampling.top_p == 1:  # a sum may reach 1 by rounding before it is whole
            top[token] = probability
        mass += probability
    most = max(top.values())
    return normalised({token: weight for token, weight in top.items() if weight >= sampling.min_p * most})
