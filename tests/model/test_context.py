"""Laws of reading along: however texts are kept, the model says of each what it says when it reads it anew."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.layout import max_header
from model.build import LanguageModel, build
from model.config import ModelConfig, preset
from model.context import CachedContext, RecomputedContext, window

CONTEXT = 16
VOCABULARY = 50
SIZES = {"layers": 2, "width": 32, "heads": 2, "context": CONTEXT, "vocab_size": VOCABULARY}
SHAPES = {
    "qwen3": ModelConfig(**SIZES, kv_heads=1, hidden=48, head_size=16),
    "classic": preset("classic", **SIZES, hidden=48),
}


def random_model(shape: ModelConfig) -> LanguageModel:
    torch.manual_seed(0)
    model = build(shape)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


MODELS = {kind: random_model(shape) for kind, shape in SHAPES.items()}


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(sorted(MODELS)),
    headers=st.lists(st.integers(0, max_header(CONTEXT)), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_texts_that_grow_restart_and_end_are_read_as_if_anew(kind, headers, seed, data):
    """A text may begin with more than the context holds; most grow until the window has moved."""
    generator = torch.Generator().manual_seed(seed)

    def new(least: int) -> list[int]:
        tokens = data.draw(st.integers(max(1, least), 2 * CONTEXT))
        return torch.randint(VOCABULARY, (tokens,), generator=generator).tolist()

    texts = [new(header) for header in headers]
    contexts = [reading(MODELS[kind], headers, 99) for reading in (CachedContext, RecomputedContext)]
    while texts:
        for _ in range(data.draw(st.integers(1, CONTEXT))):
            cached, recomputed = (context.logits(texts) for context in contexts)
            torch.testing.assert_close(cached, recomputed, atol=1e-4, rtol=0)
            for text in texts:
                text.append(int(torch.randint(VOCABULARY, (), generator=generator)))
        finished = data.draw(st.integers(0, len(texts) - 1))
        if data.draw(st.booleans()):
            header = data.draw(st.integers(0, max_header(CONTEXT)))
            texts[finished] = new(header)
            for context in contexts:
                context.restart(finished, header)
        else:
            texts[finished] = texts[-1]
            del texts[-1]
            for context in contexts:
                context.drop(finished)


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_a_step_reads_one_token_of_each_text_and_a_moved_window_half_of_itself(kind, monkeypatch):
    model, read = MODELS[kind], []
    hidden = model.hidden
    monkeypatch.setattr(model, "hidden", lambda ids, **kw: (read.append(tuple(ids.shape)), hidden(ids, **kw))[1])
    context, texts = CachedContext(model, [4, 4], 99), [[1] * 6, [1] * 12]
    for _ in range(12):
        context.logits(texts)
        for text in texts:
            text.append(2)
    half = 4 + (CONTEXT - 4) // 2 - 1  # the last token is read in the step
    assert read[:2] == [(1, 5), (1, 11)]
    assert [shape for shape in read[2:] if shape != (2, 1)] == [(1, half)] * 2
    assert read.count((2, 1)) == 12


def test_memory_is_taken_for_the_length_that_is_needed():
    assert CachedContext(MODELS["qwen3"], [0], 5).cache.context == 5
    assert CachedContext(MODELS["qwen3"], [0], 10 * CONTEXT).cache.context == CONTEXT


def test_a_window_is_the_header_and_the_latest_text():
    tokens = list(range(40))
    assert window(tokens[:CONTEXT], 4, CONTEXT) == tokens[:CONTEXT]
    moved = window(tokens, 4, CONTEXT)
    assert moved[:4] == tokens[:4]
    assert moved[4:] == tokens[-len(moved[4:]) :]
    assert CONTEXT // 2 < len(moved) <= CONTEXT
