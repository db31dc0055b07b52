"""Exercises in copying, and text that repeats itself: by them a model learns to look back.

In: batches of text.  Out: batches of the same kind, exercises first, then the text, of which some rows repeat stretches
of themselves.

What was said before is often said again, names above all. Heads that find it (model/copying.py) bring little while a
model cannot tell words apart, and are gone before they bring more. A row of random tokens, said again and again, has
nothing else to teach, and rows of text that repeat themselves keep what was learned until text makes use of it (tried
in LOG.md; that exercises without meaning speed up what comes after: Hu et al. 2025, arXiv:2502.19249).

A model must not take from them that whatever comes twice comes again and again: its stories would. So a mark, which no
text has, stands before what is repeated, and after some hundred steps such rows end. They are the exception to two
rules of data/batches.py: what is overwritten is not read in that epoch, and attention crosses documents.
"""

import numpy as np

from data.batches import Batch, TrainingBatches

SHORTEST, LONGEST = 8, 48  # tokens of a stretch that is repeated in text
REPEATING = 1 / 8  # of the rows of text
REPEATING_STEPS = 400  # optimizer steps after the exercises
MARK = 0xFF  # the id of a byte that UTF-8 has no use for
COPYING = 2  # tells these random numbers from those of other things


class CopyingBatches:
    """Step t's batch is a pure function of (seed, t), as that of the text is.

    text: its step 0 comes at step `exercises`; none is left out. vocab_size: ids that an exercise may have.
    """

    def __init__(self, text: TrainingBatches, *, exercises: int, vocab_size: int) -> None:
        self.text = text
        self.exercises = exercises
        self.vocab_size = vocab_size

    def of_step(self, step: int) -> Batch:
        """The batch of optimizer step `step`, counted from 0."""
        random = np.random.default_rng((self.text.seed, step, COPYING))
        if step < self.exercises:
            return exercise(random, self.text.rows, self.text.context, self.vocab_size)
        batch = self.text.of_step(step - self.exercises)
        return repeating(batch, REPEATING, random) if step < self.exercises + REPEATING_STEPS else batch


def exercise(random: np.random.Generator, rows: int, context: int, vocab_size: int) -> Batch:
    """Rows, (rows, context), that each say random tokens again and again; scored where it can be known what follows.

    vocab_size: the ids are below it.
    """
    tokens = np.empty((rows, context + 1), np.int64)
    scored = np.empty((rows, context), np.bool_)
    for row in range(rows):
        length = int(random.integers(min(SHORTEST, context // 2), context // 2 + 1))
        tokens[row] = np.resize(random.integers(0, vocab_size, length), context + 1)
        scored[row] = np.arange(context) >= length
    positions = np.tile(np.arange(context), (rows, 1))
    return Batch(tokens[:, :-1], tokens[:, 1:], scored, positions, None)


def repeating(batch: Batch, share: float, random: np.random.Generator) -> Batch:
    """The batch, where in a share of the rows the second half is a MARK and stretches of the first half.

    share: from 0 to 1, of the rows on average. The MARK is not scored, as nothing tells that it comes.
    """
    rows, context = batch.inputs.shape
    half = context // 2
    inputs, targets = batch.inputs.copy(), batch.targets.copy()
    positions, scored = batch.positions.copy(), batch.scored.copy()
    segments = None if batch.segments is None else batch.segments.copy()
    for row in random.permutation(rows)[: int(share * rows + random.random())]:
        tokens = np.append(inputs[row], targets[row, -1])
        tokens[half] = MARK
        scored[row, half - 1] = False
        place = half + 1
        while place <= context:
            length = min(int(random.integers(SHORTEST, LONGEST + 1)), half, context + 1 - place)
            start = int(random.integers(0, half - length + 1))
            tokens[place : place + length] = tokens[start : start + length]
            place += length
        inputs[row], targets[row], positions[row] = tokens[:-1], tokens[1:], np.arange(context)
        if segments is not None:
            segments[row] = 0
    return Batch(inputs, targets, scored, positions, segments)
