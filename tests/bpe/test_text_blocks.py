"""Texts in blocks: all of them in their order, and of the size asked for."""

from itertools import chain, pairwise

from hypothesis import given
from hypothesis import strategies as st

from bpe.cuts import cuts_of
from bpe.split import PATTERNS
from bpe.text_blocks import joined, text_blocks, together


@given(st.lists(st.text("a b", max_size=30)), st.integers(1, 20))
def test_blocks_are_all_of_the_texts_in_their_order(texts, size):
    found = list[bytes]()
    for some in text_blocks(texts, cuts_of(PATTERNS["qwen2"]), size):
        if len(some) > 1:  # the parts of one long text
            assert all(len(block.texts) == 1 for block in some)
            found.append(b"".join(chain.from_iterable(block.utf8() for block in some)))
        else:
            found += some[0].utf8()
    assert found == [text.encode() for text in texts]


@given(st.lists(st.binary()))
def test_joined_texts_meet_where_it_is_said(block):
    text, between = joined(block)
    assert [text[start:stop] for start, stop in pairwise([0, *between.tolist(), len(text)])] == (block or [b""])


@given(st.lists(st.text(max_size=12)), st.integers(1, 20))
def test_groups_are_the_texts_in_their_order_and_no_longer_than_asked(texts, size):
    groups = list(together(texts, len, size))
    assert list(chain.from_iterable(groups)) == texts
    for group, following in pairwise([*groups, ["x" * size + "x"]]):
        length = sum(map(len, group))
        assert length <= size or len(group) == 1
        assert length + len(following[0]) > size
