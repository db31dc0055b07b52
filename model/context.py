"""What a model says of the next token of each of several texts, given all that came before it.

In: a model, and of every text all its tokens so far.  Out: logits, (texts, vocabulary).

A text longer than the model's context is seen through a window (data/layout.py): its header, which every window
repeats, and the latest part of its body. `RecomputedContext` is the definition, `CachedContext` the same answers, fast.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from data.layout import body_start
from model.language_model import LanguageModel

Tokens = Sequence[int]


class Context(Protocol):
    """Reads texts along while they are written.

    headers: of each text, how many tokens at its start stay in view. length: the most tokens that a text will have.
    """

    def __init__(self, model: LanguageModel, headers: Sequence[int], length: int) -> None: ...

    def logits(self, texts: Sequence[Tokens]) -> Tensor:
        """(texts, vocabulary), float32; `texts` are those of the call before, with tokens added, in the same order."""

    def restart(self, text: int, header: int) -> None:
        """Forget a text that is finished; another one takes its place."""

    def drop(self, text: int) -> None:
        """Forget a text that is finished; the last one takes its place."""


class RecomputedContext:
    """The definition: read the whole window anew for every token. Slow on purpose; the tests trust it."""

    def __init__(self, model: LanguageModel, headers: Sequence[int], length: int) -> None:
        self.model, self.headers = model, list(headers)

    @torch.inference_mode()
    def logits(self, texts: Sequence[Tokens]) -> Tensor:
        windows = [
            window(tokens, header, self.model.config.context)
            for tokens, header in zip(texts, self.headers, strict=True)
        ]
        hidden = [self.model.hidden(torch.tensor([ids], device=self.model.device))[0, -1] for ids in windows]
        return self.model.logits(torch.stack(hidden))

    def restart(self, text: int, header: int) -> None:
        self.headers[text] = header

    def drop(self, text: int) -> None:
        self.headers[text] = self.headers[-1]
        del self.headers[-1]


class CachedContext:
    """The same answers, fast: of every window each token is read once, and its keys and values are kept.

    All texts go on by one token in one step of the model. What else a text has unread, its start at first and half a
    window whenever the window moves (about one token more for each that is written), is read for it alone.
    """

    def __init__(self, model: LanguageModel, headers: Sequence[int], length: int) -> None:
        self.model, self.headers = model, list(headers)
        self.cache = model.new_cache(len(self.headers), min(length, model.config.context))
        self.starts = [0] * len(self.headers)  # where the body of the window starts; 0 for the first window
        self.read = [0] * len(self.headers)  # how many of all tokens have been read

    @torch.inference_mode()
    def logits(self, texts: Sequence[Tokens]) -> Tensor:
        for text, tokens in enumerate(texts):
            self._read_all_but_the_last(text, tokens)
        latest = torch.tensor([[tokens[-1]] for tokens in texts], device=self.model.device)
        hidden = self.model.hidden(latest, cache=self.cache)
        return self.model.logits(hidden[:, -1])

    def restart(self, text: int, header: int) -> None:
        self.headers[text] = header
        self.cache.lengths[text] = self.starts[text] = self.read[text] = 0

    def drop(self, text: int) -> None:
        self.cache.drop(text)
        for kept in (self.headers, self.starts, self.read):
            kept[text] = kept[-1]
            del kept[-1]

    def _read_all_but_the_last(self, text: int, tokens: Tokens) -> None:
        header = self.headers[text]
        start = body_start(len(tokens), header, self.model.config.context)
        if start == self.starts[text]:
            unread = tokens[self.read[text] : -1]
        else:
            self.cache.lengths[text] = 0
            unread = [*tokens[:header], *tokens[start:-1]]
        if unread:
            one = self.cache.row(text)
            self.model.hidden(torch.tensor([unread], device=self.model.device), cache=one)
            self.cache.lengths[text] = one.length
        self.starts[text], self.read[text] = start, len(tokens)


def window(tokens: Tokens, header: int, context: int) -> list[int]:
    """What the model sees when it predicts what follows `tokens`."""
    start = body_start(len(tokens), header, context)
    return [*tokens[:header], *tokens[start:]] if start else list(tokens)
