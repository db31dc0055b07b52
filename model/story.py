"""From a prompt to a story, token by token.

In: a model, its tokenizer, a prompt and how to sample.  Out: pieces of text as they come, and what is known at the end.

    prompt ── layout ──> ids ── CachedContext ──> logits ── sampling ──> next id ── stream decoder ──> text
                          ^                                                 │
                          └─────────────────────────────────────────────────┘

A finetuned model is given the prompt where it was in training, before <|story|>, and writes what follows; one that was
only pretrained goes on with the prompt as the beginning of a text. Either stops at <|endoftext|>.
"""

import random
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from bpe import Tokenizer
from data.clean import normalise
from data.layout import END, PROMPT, SPECIAL_TOKENS, STORY, max_header, prompt_tokens
from model.context import CachedContext, Context
from model.ending import ENDINGS, Closing, Ending
from model.errors import ModelError
from model.language_model import LanguageModel
from model.sampling import breaks_of, next_token
from model.settings import Stage
from model.story_settings import MAX_TOKENS, Sampling, check_limits

NO_CHARACTER = "\N{REPLACEMENT CHARACTER}"  # for bytes that make none: nothing is shown for them
AT_ONCE = 8  # stories that are written together; each has keys and values of its own in memory


def generate(
    model: LanguageModel,
    tok: Tokenizer,
    prompt: str,
    *,
    max_tokens: int = MAX_TOKENS,
    ending: Ending = ENDINGS[0],
    temperature: float = Sampling().temperature,
    top_k: int = Sampling().top_k,
    top_p: float = Sampling().top_p,
    min_p: float = Sampling().min_p,
    repeat_penalty: float = Sampling().repeat_penalty,
    dry: float = Sampling().dry,
    seed: int | None = None,
    stage: Stage | None = None,
) -> Iterator[str]:
    """The pieces of a story as they are written: whole characters, never a special token. See Story for the arguments.

    >>> for piece in generate(model, tok, "A man in a sinking ship", seed=1): print(piece, end="")  # doctest: +SKIP
    """
    sampling = Sampling(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repeat_penalty=repeat_penalty, dry=dry
    )
    return iter(
        Story(model, tok, prompt, sampling=sampling, max_tokens=max_tokens, ending=ending, seed=seed, stage=stage)
    )


class Story:
    """A story that is written while it is iterated over; afterwards its fields say what came of it.

    prompt: cleaned as the training texts were; special tokens in it are plain text. Empty: a story of the model's own
    choosing. Of a prompt longer than half the context a finetuned model is given the beginning, of one longer than
    the context a pretrained model sees the end: `prompt_cut`. `room`: tokens there are for it, special ones counted.
    so_far: text of the story that is there already and is gone on with; it is not written again.
    max_tokens: of what is written, prompt and end token not counted. Where the context is full the oldest text of the
    story leaves it; a finetuned model's prompt stays (data/layout.py).
    ending: what becomes of the sentence that max_tokens breaks off (model/ending.py).
    seed: 0 to 2**63 - 1, by default chosen by chance; `seed` says which, and with it the same story comes again.
    stage: which layout the model knows; by default what `load` found, else "finetune".
    Raises ConfigError for impossible settings and ModelError for a tokenizer that is not the model's, when made.
    """

    def __init__(
        self,
        model: LanguageModel,
        tok: Tokenizer,
        prompt: str,
        *,
        so_far: str = "",
        sampling: Sampling | None = None,
        max_tokens: int = MAX_TOKENS,
        ending: Ending = ENDINGS[0],
        seed: int | None = None,
        stage: Stage | None = None,
    ) -> None:
        check_limits(max_tokens=max_tokens, ending=ending, seed=seed)
        if missing := set(SPECIAL_TOKENS) - tok.special_tokens.keys():
            raise ModelError(
                f"the tokenizer has no {', '.join(sorted(missing))}; use the one the model was trained with"
            )
        if tok.vocab_size != model.config.vocab_size:
            raise ModelError(
                f"the tokenizer has {tok.vocab_size:,} tokens and the model {model.config.vocab_size:,}; "
                "use the one the model was trained with"
            )
        self.model, self.tok = model, tok
        self.sampling = Sampling() if sampling is None else sampling
        self.max_tokens, self.ending = max_tokens, ending
        self.seed = random.SystemRandom().randrange(2**32) if seed is None else seed
        self.end = tok.special_tokens[END]
        self.breaks = breaks_of(tok)
        self.never = torch.tensor([tok.special_tokens[PROMPT], tok.special_tokens[STORY]])
        self.not_first = torch.tensor([*self.never, self.end])  # no story is empty
        self.beginning = ""  # text of the story that is given, not written
        self.so_far = so_far
        self.given = tok.encode(so_far)
        context = model.config.context
        if (stage or model.stage or "finetune") == "finetune":
            self.prompt = " ".join(normalise(prompt).split())  # the prompts it was trained on are single lines
            prompt_ids = tok.encode(self.prompt)
            self.room = max_header(context)
            self.start = prompt_tokens(tok, prompt_ids, self.room)
            self.header = len(self.start)
            self.prompt_cut = self.start != prompt_tokens(tok, prompt_ids)
        else:
            self.prompt = normalise(prompt).strip()  # a blank belongs to the token after it
            self.beginning = "" if so_far else self.prompt
            self.start = [self.end, *tok.encode(self.beginning)]
            self.header, self.room = 0, context
            self.prompt_cut = len(self.start) > context
        self.begin()

    def begin(self) -> None:
        """Make the story one of which nothing is written yet."""
        self.tokens: list[int] = []  # what was written, without the end token
        self.text = self.beginning
        self.stopped: Literal["end", "length"] | None = None  # None: not finished, or broken off
        self.seconds = 0.0  # from its beginning to its latest token
        self.begun = time.perf_counter()
        self.decoder = self.tok.stream()
        self.closing = Closing(self.ending, self.max_tokens, self.so_far or self.beginning)
        self.generator = torch.Generator().manual_seed(self.seed)

    def __iter__(self) -> Iterator[str]:
        """Write the story anew, piece by piece."""
        return (piece for _, piece in write_together([self]))

    @property
    def ids(self) -> list[int]:
        """All that the model has to read before the next token: the prompt and the story so far."""
        return [*self.start, *self.given, *self.tokens]

    def go_on(self, logits: Tensor) -> str:
        """Draw the next token, given what the model says of it, and take it. logits: (vocabulary,), on the CPU."""
        logits = logits.index_fill(0, self.never if self.tokens else self.not_first, -torch.inf)
        so_far = [*self.given, *self.tokens]
        token = next_token(logits, so_far, self.sampling, self.generator, end=self.end, breaks=self.breaks)
        self.seconds = time.perf_counter() - self.begun
        return self.take(token)

    def take(self, token: int) -> str:
        """Go on by one token; the text to show for it, often empty. The story is over when `stopped` says so."""
        if token == self.end:
            self.stopped = "end"
            piece = self.closing.end()
        else:
            self.tokens.append(token)
            piece = self.closing.push(self.decoder.push(token).replace(NO_CHARACTER, ""))
            if self.closing.over:
                self.stopped = "length"
                del self.tokens[self.closing.kept() :]
        self.text += piece
        return piece


def write_together(
    stories: Sequence[Story], reading: type[Context] = CachedContext, *, at_once: int = AT_ONCE
) -> Iterator[tuple[int, str]]:
    """Write several stories of one model, each as if it were written alone, `at_once` of them in every step of it.

    Yields a piece of text and, before it, the number of its story, as they come. They begin in their order; where one
    ends, the next begins. A step for eight takes little longer than for one: the weights are read once.
    """
    model, unbegun = stories[0].model, iter(enumerate(stories))
    rows = list(islice(unbegun, at_once))  # the story, and its number, in each row of the context
    was_training = model.training
    model.eval()
    try:
        for i, story in rows:
            yield from _beginning(i, story)
        length = max(len(story.start) + len(story.given) + story.closing.most for story in stories)
        context = reading(model, [story.header for _, story in rows], length)
        while rows:
            logits = context.logits([story.ids for _, story in rows]).cpu()
            for (i, story), scores in zip(rows, logits, strict=True):
                if piece := story.go_on(scores):
                    yield i, piece
            for row in reversed(range(len(rows))):
                if rows[row][1].stopped is None:
                    continue
                if following := next(unbegun, None):
                    rows[row] = following
                    context.restart(row, following[1].header)
                    yield from _beginning(*following)
                else:
                    context.drop(row)
                    rows[row] = rows[-1]
                    del rows[-1]
    finally:
        model.train(was_training)


def _beginning(i: int, story: Story) -> Iterator[tuple[int, str]]:
    story.begin()
    if story.beginning:
        yield i, story.beginning
