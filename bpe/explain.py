"""Showing the merges that build a word, in order.

In: a tokenizer and a word, or any text.  Out: lines: the pieces it is cut into, then every merge within each piece.
"""

from collections.abc import Iterator, Mapping, Sequence

from bpe.merging import earliest_merge
from bpe.pairs import Pair, merged
from bpe.show import ids_in_a_row, number_of, tokens_in_a_row
from bpe.split import Splitter
from bpe.tokenizer import Tokenizer
from bpe.vocabulary import FIRST_MERGE_ID
from bpe.words import naming_lone_surrogates


def explained(tok: Tokenizer, text: str, *, colour: bool) -> Iterator[str]:
    """Lines that tell how the ids of `text` come about; of a piece that comes again, once.

    Raises BPEError naming the position of a lone surrogate.
    """
    with naming_lone_surrogates(text):
        pieces = [piece.encode() for piece in Splitter(tok.pattern).pieces(text)]
    if not pieces:
        yield "An empty text has no pieces, and no ids."
        return
    shown = tokens_in_a_row(pieces, colour=colour)
    yield f"The split pattern cuts this into {number_of(len(pieces), 'piece')}: {shown}"
    new_ids = {pair: id for id, pair in enumerate(tok.merges, FIRST_MERGE_ID)}
    for piece in dict.fromkeys(pieces):
        yield ""
        yield from _explained_piece(piece, new_ids, tok.vocabulary.token_bytes, colour)


def _explained_piece(
    piece: bytes, new_ids: Mapping[Pair, int], token_bytes: Sequence[bytes], colour: bool
) -> Iterator[str]:
    """The piece, a table of its merges (number, new id, what is joined, the piece as it then stands), and its ids."""

    def row(ids: Sequence[int], *, colour: bool = colour, width: int = 0) -> str:
        return tokens_in_a_row([token_bytes[id] for id in ids], colour=colour, width=width)

    ids = list(piece)
    steps = list(_steps(ids, new_ids))
    width = max([len("joins"), *(len(row(pair, colour=False)) for pair, _ in steps)])
    yield tokens_in_a_row([piece], colour=colour)
    yield f"  merge     id  {'joins':{width}}  the piece as it then stands"
    yield f"{'':16}{'':{width}}  {row(ids)}"
    for pair, ids in steps:
        new = new_ids[pair]
        yield f"{new - FIRST_MERGE_ID + 1:7} {new:6}  {row(pair, width=width)}  {row(ids)}"
    yield f"  ids: {ids_in_a_row(ids, colour=colour)}"


def _steps(ids: Sequence[int], new_ids: Mapping[Pair, int]) -> Iterator[tuple[Pair, list[int]]]:
    """Each merge in turn: the pair that is joined, and the ids after it."""
    while pair := earliest_merge(ids, new_ids):
        ids = merged(ids, pair, new_ids[pair])
        yield pair, ids
