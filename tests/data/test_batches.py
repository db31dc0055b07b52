"""Laws of batches: what a model is shown, in training and in evaluation. The made-up files hold every id but once."""

from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpe import Tokenizer
from data.batches import Batch, HeldOut, TrainingBatches
from data.documents import Document, Pair
from data.errors import DataError
from data.layout import END, MIN_CONTEXT, SPECIAL_TOKENS, max_header
from data.tokens import DOCUMENT, VERSION, Manifest, TokenFile, write_token_files

contexts = st.integers(MIN_CONTEXT, 24)
lengths_of_documents = st.lists(st.integers(3, 80), min_size=1, max_size=12)
seeds = st.integers(0, 3)


def made_up(kind: str, shapes: list[tuple[int, int]]) -> TokenFile:
    """A file of documents with these (header, length)s in tokens, in which token i has the id i + 1."""
    lengths = [length for _, length in shapes]
    starts = np.cumsum([0, *lengths])
    table = np.array(
        [(int(start), header, 1) for start, (header, _) in zip(starts[:-1], shapes, strict=True)], DOCUMENT
    )
    manifest = Manifest(
        version=VERSION, kind=kind, dtype="uint32", documents=len(shapes), tokens=sum(lengths), bytes=len(shapes),
        tokenizer="", source="", sha256="",
    )  # fmt: skip
    return TokenFile(Path("made-up"), manifest, np.arange(1, sum(lengths) + 1, dtype=np.uint32), table)


@st.composite
def files(draw: st.DrawFn, kinds: tuple[str, ...] = ("documents", "pairs")) -> TokenFile:
    if draw(st.sampled_from(kinds)) == "documents":
        return made_up("documents", [(0, length) for length in draw(lengths_of_documents)])
    pairs = draw(st.lists(st.tuples(st.integers(3, 20), st.integers(2, 70)), min_size=1, max_size=12))
    return made_up("pairs", [(header, header + story) for header, story in pairs])


def epoch_of(batches: TrainingBatches, epoch: int) -> list[Batch]:
    """The rows of an epoch, one a batch; `batches` must have one row a step."""
    first = sum(map(batches.rows_of_epoch, range(epoch)))
    return [batches.of_step(first + i) for i in range(batches.rows_of_epoch(epoch))]


def segments_of(batch: Batch) -> list[slice]:
    """The segments of a batch of one row, padding left out."""
    if batch.segments is None:
        return [slice(0, int((batch.inputs[0] > 0).sum()))]
    edges = [0, *(np.flatnonzero(np.diff(batch.segments[0])) + 1).tolist(), len(batch.inputs[0])]
    return [slice(*edge) for edge in pairwise(edges) if batch.inputs[0, edge[0]]]


def ids_to_score(file: TokenFile, *, all_ends: bool) -> list[int]:
    """The ids that stand for tokens after the headers; without `all_ends`, a plain document's last is left out."""
    keep_last = all_ends or file.kind == "pairs"
    firsts = file.starts[:-1] + np.maximum(file.headers, 1)
    return [
        i + 1 for first, end in zip(firsts, file.starts[1:], strict=True) for i in range(first, end - (not keep_last))
    ]


def scored_ids(batches: list[Batch]) -> list[int]:
    return sorted(chain.from_iterable(batch.targets[batch.scored].tolist() for batch in batches))


@pytest.mark.parametrize("kind", ["documents", "pairs"])
def test_a_context_too_short_for_a_prompt_and_a_story_is_an_error(kind):
    header = 3 if kind == "pairs" else 0
    with pytest.raises(DataError, match=f"take {MIN_CONTEXT} or more"):
        TrainingBatches(made_up(kind, [(header, 20)]), context=MIN_CONTEXT - 1, rows=1, seed=0)


@given(file=files(), context=contexts, seed=seeds, epoch=st.integers(0, 2))
def test_every_token_that_counts_is_scored_exactly_once_an_epoch(file, context, seed, epoch):
    batches = TrainingBatches(file, context=context, rows=1, seed=seed)
    scored = scored_ids(epoch_of(batches, epoch))
    assert scored == ids_to_score(file, all_ends=True)
    assert batches.scored_per_epoch == len(scored)


@given(file=files(), context=contexts)
def test_evaluation_scores_every_token_but_the_end_of_a_plain_document_exactly_once(file, context):
    held_out = HeldOut(file, vocabulary_of(file), context=context, rows=3)
    scored = scored_ids(list(held_out.batches()))
    assert scored == ids_to_score(file, all_ends=False)
    assert held_out.num_tokens == len(scored)


def vocabulary_of(file: TokenFile) -> SimpleNamespace:
    """A stand-in for the tokenizer, as much of one as matters where no bytes are counted."""
    return SimpleNamespace(vocab_size=file.num_tokens + 1, token_bytes=(), special_tokens={END: 0})


def assert_segments_are_documents(file: TokenFile, batch: Batch, context: int) -> None:
    """Each segment is one document's header and then a stretch of it, and each target what follows there."""
    for part in segments_of(batch):
        inputs, targets = batch.inputs[0, part] - 1, batch.targets[0, part] - 1
        document = int(np.searchsorted(file.starts, inputs[0], side="right")) - 1
        start, end = file.starts[document], file.starts[document + 1]
        header = int(file.headers[document])
        fitted = min(header, max_header(context))
        assert np.array_equal(targets[:-1], inputs[1:])
        assert np.all((start <= inputs) & (targets < end))
        joints = np.flatnonzero(np.diff(np.append(inputs, targets[-1])) != 1)
        if header:  # the cut of a long prompt, and the joint of header and body
            assert inputs[0] == start
            assert inputs[fitted - 1] == start + header - 1
            assert set(joints) <= {fitted - 2, fitted - 1}
        else:
            assert len(joints) == 0
        assert np.array_equal(batch.positions[0, part], np.arange(len(inputs)))


@given(file=files(), context=contexts, seed=seeds)
def test_a_segment_is_one_document_its_header_first(file, context, seed):
    for batch in epoch_of(TrainingBatches(file, context=context, rows=1, seed=seed), 0):
        assert_segments_are_documents(file, batch, context)
    for batch in HeldOut(file, vocabulary_of(file), context=context, rows=1).batches():
        assert_segments_are_documents(file, batch, context)


@given(file=files(), context=contexts, seed=seeds)
def test_padding_comes_last_is_a_segment_of_its_own_and_never_scored(file, context, seed):
    for batch in epoch_of(TrainingBatches(file, context=context, rows=1, seed=seed), 0):
        used = sum(part.stop - part.start for part in segments_of(batch))
        assert used > 0
        assert not batch.inputs[0, used:].any()
        assert not batch.targets[0, used:].any()
        assert not batch.scored[0, used:].any()
        if batch.segments is not None:
            assert len(segments_of(batch)) > 1
            assert set(batch.segments[0, used:]) <= {len(segments_of(batch))}


@given(
    file=files(), context=contexts, seed=seeds, rows=st.integers(1, 5), steps=st.lists(st.integers(0, 12), min_size=1)
)
def test_a_step_is_the_same_whatever_was_asked_for_before(file, context, seed, rows, steps):
    used = TrainingBatches(file, context=context, rows=rows, seed=seed)
    single = TrainingBatches(file, context=context, rows=1, seed=seed)
    for step in steps:
        batch = used.of_step(step)
        fresh = TrainingBatches(file, context=context, rows=rows, seed=seed).of_step(step)
        for name in ("inputs", "targets", "scored", "positions", "segments"):
            assert np.array_equal(getattr(batch, name), getattr(fresh, name))
        assert batch.inputs.shape == (rows, context)
        for row in range(rows):  # and its rows are those of all epochs, one after another
            assert np.array_equal(batch.inputs[row], single.of_step(step * rows + row).inputs[0])


def test_epochs_and_seeds_differ():
    file = made_up("pairs", [(3, 3 + 2 + i % 7) for i in range(60)])
    for other in (made_up("documents", [(0, 20)] * 30), file):
        batches = TrainingBatches(other, context=16, rows=1, seed=1)
        first, second = ([batch.inputs.tolist() for batch in epoch_of(batches, epoch)] for epoch in (0, 1))
        reseeded = epoch_of(TrainingBatches(other, context=16, rows=1, seed=2), 0)
        assert first != second
        assert first != [batch.inputs.tolist() for batch in reseeded]
        assert sorted(first) != sorted(second)  # the rows themselves, not only their order


def test_documents_have_other_neighbours_every_epoch():
    batches = TrainingBatches(made_up("documents", [(0, 5)] * 40), context=40, rows=1, seed=0)
    neighbours = []
    for epoch in (0, 1):
        rows = [[batch.inputs[0, part.start] // 5 for part in segments_of(batch)] for batch in epoch_of(batches, epoch)]
        neighbours.append({pair for row in rows for pair in pairwise(row)})
    assert len(neighbours[0] & neighbours[1]) < 10
    assert len(neighbours[0]) > 30


def test_a_single_book_is_cut_elsewhere_every_epoch():
    batches = TrainingBatches(made_up("documents", [(0, 1000)]), context=50, rows=1, seed=0)
    cuts = [{int(batch.inputs[0, 0]) % 50 for batch in epoch_of(batches, epoch)} for epoch in range(4)]
    assert len(set(map(frozenset, cuts))) == 4


@given(lengths=lengths_of_documents, context=contexts, seed=seeds)
def test_a_stream_of_documents_pads_less_than_one_row(lengths, context, seed):
    batches = TrainingBatches(
        made_up("documents", [(0, length) for length in lengths]), context=context, rows=1, seed=seed
    )
    padded = sum(int((batch.inputs == 0).sum()) for batch in epoch_of(batches, 0))
    assert padded < context
    assert batches.shares_of_epoch(0).padding == pytest.approx(padded / (batches.rows_of_epoch(0) * context))


@pytest.mark.parametrize("context", [256, 512, 1024])
def test_packed_pairs_pad_less_than_one_part_in_twenty(context):
    random = np.random.default_rng(0)  # lengths like those of real pairs: half of the stories above 700 tokens
    headers = np.clip(random.lognormal(3.4, 0.5, 2000).astype(int), 4, 200)
    stories = np.clip(random.lognormal(6.5, 0.65, 2000).astype(int), 120, 6000)
    file = made_up("pairs", list(zip(headers.tolist(), (headers + stories).tolist(), strict=True)))
    batches = TrainingBatches(file, context=context, rows=8, seed=0)
    assert all(batches.shares_of_epoch(epoch).padding < 0.05 for epoch in range(3))


@given(file=files(("pairs",)), context=contexts)
def test_the_last_window_of_a_story_is_never_shorter_than_in_evaluation(file, context):
    for batch in epoch_of(TrainingBatches(file, context=context, rows=1, seed=0), 0):
        for part in segments_of(batch):
            document = int(np.searchsorted(file.starts, batch.inputs[0, part.start] - 1, side="right")) - 1
            fitted = min(int(file.headers[document]), max_header(context))
            inputs = int(file.lengths[document] - file.headers[document]) + fitted - 1
            read_before = (context - fitted) // 2 if inputs > context else 0
            assert part.stop - part.start >= min(fitted + read_before, inputs)


def test_long_stories_end_at_many_places_of_a_window_and_elsewhere_in_every_epoch():
    """A model that met every end at a window's last position would learn to wait for it."""
    file = made_up("pairs", [(4, 4 + 100 + i % 40) for i in range(200)])
    batches = TrainingBatches(file, context=64, rows=1, seed=0)
    lasts = set((file.starts[1:]).tolist())  # the number that stands for the last token of a document

    def ends(epoch):
        found = {}
        for batch in epoch_of(batches, epoch):
            for place in np.flatnonzero(batch.scored[0]):
                if (token := int(batch.targets[0, place])) in lasts:
                    found[token] = int(batch.positions[0, place])
        return found

    first, second = ends(0), ends(1)
    assert len(first) == len(second) == 200
    assert sum(place == 63 for place in first.values()) < 50
    assert len(set(first.values())) > 15
    assert first != second


def test_the_smallest_epoch_and_a_step_of_many_epochs_work():
    file = made_up("pairs", [(3, 5)])
    batch = TrainingBatches(file, context=8, rows=5, seed=0).of_step(3)
    assert batch.inputs[:, :4].tolist() == [[1, 2, 3, 4]] * 5
    assert batch.targets[batch.scored].tolist() == [4, 5] * 5
    assert batch.segments is None


@given(file=files(), context=contexts, max_tokens=st.integers(1, 300))
def test_capped_evaluation_scores_no_more_than_asked_unless_it_must(file, context, max_tokens):
    capped = HeldOut(file, vocabulary_of(file), context=context, rows=2, max_tokens=max_tokens)
    whole = HeldOut(file, vocabulary_of(file), context=context, rows=2)
    first = int(file.lengths[0] - file.headers[0])
    least = first if file.kind == "pairs" else min(first - 2, 2 * context)
    assert 0 < capped.num_tokens <= max(max_tokens, least)
    assert capped.num_tokens == whole.num_tokens or max_tokens < whole.num_tokens
    assert set(scored_ids(list(capped.batches()))) <= set(scored_ids(list(whole.batches())))


def test_capped_evaluation_takes_beginnings_of_documents_and_whole_pairs():
    documents = made_up("documents", [(0, 102)] * 10)
    assert HeldOut(documents, vocabulary_of(documents), context=8, rows=2, max_tokens=500).num_tokens == 500
    beginnings = HeldOut(documents, vocabulary_of(documents), context=8, rows=2, max_tokens=165)
    assert sorted({(i - 1) // 102 for i in scored_ids(list(beginnings.batches()))}) == list(range(10))
    fewer = HeldOut(documents, vocabulary_of(documents), context=8, rows=2, max_tokens=100)  # 16 at least of each
    assert sorted({(i - 1) // 102 for i in scored_ids(list(fewer.batches()))}) == [0, 2, 4, 6, 8]
    pairs = made_up("pairs", [(4, 14)] * 9)
    assert HeldOut(pairs, vocabulary_of(pairs), context=8, rows=2, max_tokens=35).num_tokens == 30
    assert HeldOut(pairs, vocabulary_of(pairs), context=8, rows=2, max_tokens=3).num_tokens == 10  # one, and whole


TEXTS = ["Der Käpt’n sank. The man swam.\n\nHe swam on.", "é", "The ship — a big ship — sank.", "Swim! he said."] * 3


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer.train(TEXTS, vocab_size=290, special_tokens=SPECIAL_TOKENS)


@pytest.mark.parametrize("kind", ["documents", "pairs"])
@pytest.mark.parametrize("max_tokens", [None, 60])
def test_the_bytes_of_held_out_text_are_those_of_the_tokens_scored(tok, tmp_path, kind, max_tokens):
    contents = [Document("", text) if kind == "documents" else Pair("The ship sank, long ago", text) for text in TEXTS]
    examples = [(split, content) for split in ("train", "valid") for content in contents]
    file = write_token_files(examples, tok, tmp_path, "made-up", source="")["valid"]
    held_out = HeldOut(file, tok, context=12, rows=4, max_tokens=max_tokens)
    scored = list(chain.from_iterable(batch.targets[batch.scored].tolist() for batch in held_out.batches()))
    ends = scored.count(tok.special_tokens[END])
    assert held_out.num_bytes == len(tok.decode_bytes(i for i in scored if i != tok.special_tokens[END])) + ends
    if max_tokens is None:
        assert held_out.num_bytes == file.num_bytes.sum() + ends
        assert ends == (len(TEXTS) if kind == "pairs" else 0)


def test_a_context_too_short_for_a_story_is_refused():
    file = made_up("pairs", [(3, 30)])
    with pytest.raises(DataError, match="context of 4 tokens"):
        TrainingBatches(file, context=4, rows=1, seed=0)
