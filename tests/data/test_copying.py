"""Laws of exercises in copying: what is scored can be known, and the text beside them stays what it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpe import Tokenizer
from data.batches import TrainingBatches
from data.copying import MARK, REPEATING_STEPS, SHORTEST, CopyingBatches, exercise, repeating
from data.layout import MIN_CONTEXT
from tests.data.test_batches import made_up

contexts = st.integers(MIN_CONTEXT, 200)
seeds = st.integers(0, 2**32)


def text(seed: int = 0, context: int = 64, rows: int = 8) -> TrainingBatches:
    """Every id is there once an epoch."""
    return TrainingBatches(made_up("documents", [(0, 3000), (0, 40), (0, 700)]), context=context, rows=rows, seed=seed)


@given(seed=seeds, rows=st.integers(1, 5), context=contexts)
def test_of_an_exercise_is_scored_what_follows_as_it_did_before(seed: int, rows: int, context: int) -> None:
    batch = exercise(np.random.default_rng(seed), rows, context, 10**9)  # so many ids that none comes twice by chance
    assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    for inputs, targets, scored in zip(batch.inputs, batch.targets, batch.scored, strict=True):
        followed: dict[int, int] = {}
        for token, target, counts in zip(inputs.tolist(), targets.tolist(), scored.tolist(), strict=True):
            assert counts == (followed.get(token) == target)
            followed[token] = target
    assert batch.scored.any()
    assert batch.inputs.max() < 10**9
    assert (batch.positions == np.arange(context)).all()


@given(seed=seeds, context=contexts, rows=st.integers(1, 12), share=st.floats(0, 1))
def test_rows_that_repeat_are_made_of_their_first_half_and_the_others_are_left_alone(
    seed: int, context: int, rows: int, share: float
) -> None:
    before = text(seed % 7, context, rows).of_step(seed % 50)
    batch = repeating(before, share, np.random.default_rng(seed))
    half = context // 2
    changed = 0
    for row in range(rows):
        tokens = np.append(batch.inputs[row], batch.targets[row, -1])
        if np.array_equal(batch.inputs[row], before.inputs[row]):
            assert np.array_equal(batch.targets[row], before.targets[row])
            assert np.array_equal(batch.positions[row], before.positions[row])
            assert np.array_equal(batch.scored[row], before.scored[row])
            continue
        changed += 1
        assert np.array_equal(batch.targets[row], tokens[1:])
        assert np.array_equal(tokens[:half], before.inputs[row, :half])
        assert tokens[half] == MARK
        assert set(tokens[half + 1 :].tolist()) <= set(tokens[:half].tolist())
        if tokens[:half].all():  # no padding, so that every id comes once
            places = np.array([tokens[:half].tolist().index(token) for token in tokens[half + 1 :]])
            cuts = np.flatnonzero(np.diff(places) != 1) + 1
            assert all(length >= min(SHORTEST, half) for length in np.diff([0, *cuts])[:-1])
        assert (batch.positions[row] == np.arange(context)).all()
        assert batch.segments is None or (batch.segments[row] == 0).all()
        assert not batch.scored[row, half - 1]
        assert np.array_equal(np.delete(batch.scored[row], half - 1), np.delete(before.scored[row], half - 1))
    assert share * rows - 1 < changed <= share * rows + 1


@given(seed=st.integers(0, 100), exercises=st.integers(1, 9), step=st.integers(0, 60))
def test_exercises_come_first_and_then_the_text_from_its_beginning(seed: int, exercises: int, step: int) -> None:
    used = CopyingBatches(text(seed), exercises=exercises, vocab_size=50)
    used.of_step(step + 1)
    batch = used.of_step(step)
    again = CopyingBatches(text(seed), exercises=exercises, vocab_size=50).of_step(step)
    assert np.array_equal(batch.inputs, again.inputs) and np.array_equal(batch.targets, again.targets)
    if step < exercises:
        assert batch.inputs.max() < 50
        assert not batch.scored.all()
    else:
        plain = text(seed).of_step(step - exercises)
        same = sum(np.array_equal(*rows) for rows in zip(batch.inputs, plain.inputs, strict=True))
        assert same == 7


def test_rows_repeat_for_some_hundred_steps_and_then_no_more() -> None:
    batches = CopyingBatches(text(), exercises=3, vocab_size=50)
    last = 3 + REPEATING_STEPS - 1
    assert (batches.of_step(last).inputs != text().of_step(last - 3).inputs).any()
    for step in range(last + 1, last + 20):
        assert np.array_equal(batches.of_step(step).inputs, text().of_step(step - 3).inputs)


def test_no_text_has_the_mark() -> None:
    tok = Tokenizer.train(["\u00ff \U0010ffff a"], vocab_size=256)
    assert tok.token_bytes[MARK] == bytes([MARK])
    with pytest.raises(UnicodeDecodeError):
        tok.token_bytes[MARK].decode()
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    assert bytes([MARK]) not in every.encode()


def test_no_two_steps_exercise_the_same() -> None:
    batches = CopyingBatches(text(), exercises=9, vocab_size=10**6)
    assert len({batches.of_step(step).inputs.tobytes() for step in range(9)}) == 9
    other = CopyingBatches(text(seed=1), exercises=9, vocab_size=10**6)
    assert not np.array_equal(batches.of_step(0).inputs, other.of_step(0).inputs)
