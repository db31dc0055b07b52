"""Documents and pairs -> ids.

In: a stream of examples, each with its split.  Out: the same examples in the same order, as ids; of short ones some
megabytes at a time are in memory, of long ones one. The ids never depend on the number of workers.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from bpe import Tokenizer
from bpe.block_encoder import Ids
from bpe.encoder import SHARED
from bpe.text_blocks import together
from data.documents import Document, Pair, Split
from data.layout import document_tokens, pair_tokens, plain_prompt, plain_prompt_tokens, prompt_tokens

Example = tuple[Split, Document | Pair]


class PlainPair(Pair):
    """A pair for a model that knows no prompts yet: its prompt stands before the story as plain text."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as ids."""

    split: Split
    tokens: Ids
    header: int  # tokens at its start that are never scored: a pair's prompt; 0 for a document
    num_bytes: int  # UTF-8 bytes of the text, or of the story


def encoded(examples: Iterable[Example], tok: Tokenizer, workers: int | None = None) -> Generator[Encoded, None, None]:
    """The examples as ids, in order; those without text are left out.

    workers: processes that share a long document; None: one for each core. With shorter ones they would save little,
    since reading and cleaning take the time, and cost memory. Raises BPEError for a lone surrogate.
    """
    for group in together(filter(_has_text, examples), _length, SHARED):
        yield from _encoded_group(tok, group, workers)
        del group  # before the next is read


def _has_text(example: Example) -> bool:
    return bool(_texts(example)[-1])


def _length(example: Example) -> int:
    return sum(map(len, _texts(example)))


def _texts(example: Example) -> list[str]:
    """What of it is encoded: its text, or its prompt and its story."""
    _, content = example
    if isinstance(content, Document):
        return [content.text]
    return [plain_prompt(content.prompt) if isinstance(content, PlainPair) else content.prompt, content.story]


def _encoded_group(tok: Tokenizer, group: Sequence[Example], workers: int | None) -> Iterator[Encoded]:
    """Examples that are in memory together, as ids."""
    ids = iter(tok.encode_batch(chain.from_iterable(map(_texts, group)), workers=workers))
    for example in group:
        yield _encoded(tok, example, [*islice(ids, len(_texts(example)))])


def _encoded(tok: Tokenizer, example: Example, ids: Sequence[Ids]) -> Encoded:
    """An example whose texts have these ids, as data/layout.py lays it out."""
    (split, content), num_bytes = example, len(_texts(example)[-1].encode())
    if isinstance(content, Document):
        return Encoded(split, document_tokens(tok, *ids), 0, num_bytes)
    prompt, story = ids
    lay_out = plain_prompt_tokens if isinstance(content, PlainPair) else prompt_tokens
    header = lay_out(tok, prompt.tolist())
    return Encoded(split, pair_tokens(tok, header, story), len(header), num_bytes)
