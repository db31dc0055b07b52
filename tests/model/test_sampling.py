"""Laws of choosing the next token: every filter against its definition, the draw against its probabilities."""

import itertools
import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bpe import Tokenizer
from model import sampling as sampling_module
from model.errors import ConfigError, ModelError
from model.sampling import (
    DRY_LONGEST,
    REPEAT_WINDOW,
    breaks_of,
    draw,
    longest_runs_by_definition,
    loss_by_dry,
    next_token,
    penalise_loops,
    penalise_repeats,
    probabilities,
    probabilities_by_definition,
    within_reach,
)
from model.story_settings import Sampling

OPEN = Sampling(temperature=1, min_p=0, repeat_penalty=1, dry=0)  # no filter at all

# eighths are exact in binary: equal logits are common, and no edge of a filter is decided by rounding alone
logit_rows = st.lists(st.integers(-40, 40).map(lambda eighths: eighths / 8), min_size=1, max_size=30)
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.25, 0.8, 1.0, 1.7, 10.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 100]),
    top_p=st.sampled_from([1e-9, 0.3, 0.613, 0.9, 0.957, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.213, 1.0]),
    repeat_penalty=st.sampled_from([1.0, 1.1, 2.0]),
    dry=st.sampled_from([0.0, 0.75, 3.0]),
)
few_tokens = st.lists(st.integers(0, 3), max_size=25)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distribution(
    logits: list[float], recent: list[int], sampling: Sampling, breaks: Collection[int] = ()
) -> NDArray[np.float64]:
    penalised = np.array(logits)
    if recent:
        penalise_repeats(penalised, recent, sampling.repeat_penalty)
        penalise_loops(penalised, recent, sampling.dry, breaks)
    return probabilities(penalised, sampling)


@example(logits=[4.25, -5.0], sampling=replace(OPEN, temperature=0.25), data=None)  # one weighs next to nothing
@given(logits=logit_rows, sampling=samplings, data=st.data())
def test_the_filters_leave_what_their_definition_leaves(logits: list[float], sampling: Sampling, data: st.DataObject):
    recent = data.draw(st.lists(st.integers(0, min(3, len(logits) - 1)), max_size=9)) if data else []
    breaks = data.draw(st.sets(st.integers(0, 3), max_size=1)) if data else ()
    fast = distribution(logits, recent, sampling, breaks)
    slow = probabilities_by_definition(logits, recent, sampling, breaks)
    assert set(np.flatnonzero(fast)) == set(slow)
    assert all(math.isclose(fast[token], probability, rel_tol=1e-9) for token, probability in slow.items())


@settings(max_examples=300)
@given(
    logits=logit_rows,
    sampling=samplings,
    top_p=st.sampled_from([1.0, 1.0, 0.9]),
    scale=st.sampled_from([1.0, 1.0, 1.0, 1e-3, 1e6]),
    kind=st.sampled_from([np.float32, np.float64]),
)
def test_what_is_within_reach_is_all_that_the_filters_leave(logits, sampling, top_p, scale, kind):
    sampling = replace(sampling, top_p=top_p)
    scores = np.array([*logits, -math.inf], dtype=kind) * kind(scale)
    ids = within_reach(scores, sampling)
    expected, left = probabilities(scores.astype(np.float64), sampling), np.zeros(len(scores))
    left[ids] = probabilities(scores[ids].astype(np.float64), sampling)
    np.testing.assert_allclose(left, expected, rtol=1e-12)
    if sampling.min_p == top_p == 1:
        assert len(ids) == (expected > 0).sum()


@pytest.mark.parametrize("temperature", [0.8, 1.7])
def test_no_token_at_the_edge_of_min_p_is_out_of_reach_by_rounding(temperature: float):
    for best, below in itertools.product(range(-40, 41), range(1, 41)):
        scores = np.array([best, best - below]) / 8
        sampling = Sampling(temperature=temperature, min_p=math.exp(-below / 8 / temperature))
        assert len(within_reach(scores, sampling)) >= (probabilities(scores, sampling) > 0).sum()


@given(logits=logit_rows, sampling=samplings)
def test_what_is_left_is_a_distribution_and_the_most_likely_token_is_in_it(logits: list[float], sampling: Sampling):
    left = distribution(logits, [], sampling)
    assert left.sum() == pytest.approx(1)
    assert left[np.argmax(logits)] == left.max() > 0


@given(logits=logit_rows, top_p=st.floats(0.01, 0.99))
def test_top_p_keeps_the_fewest_tokens_that_have_the_mass(logits: list[float], top_p: float):
    everything = distribution(logits, [], OPEN)
    kept = np.flatnonzero(distribution(logits, [], Sampling(temperature=1, top_p=top_p, min_p=0)))
    masses = np.cumsum(-np.sort(-everything))
    assert everything[kept].sum() >= top_p - 1e-12
    assert len(kept) == 1 or masses[len(kept) - 2] < top_p + 1e-12  # one token fewer would not have it
    assert everything[kept].sum() == pytest.approx(masses[len(kept) - 1])  # and they are the likeliest


@given(logits=st.lists(st.integers(-99, 99), min_size=1, max_size=30, unique=True), top_k=st.integers(1, 40))
def test_top_k_keeps_the_k_most_likely_tokens(logits: list[int], top_k: int):
    sampling = Sampling(temperature=1, top_k=top_k, min_p=0)
    kept = np.flatnonzero(distribution([logit / 8 for logit in logits], [], sampling))
    ranked = sorted(range(len(logits)), key=lambda token: -logits[token])
    assert set(kept) == set(ranked[:top_k])


@settings(max_examples=25, deadline=None)
@given(logits=logit_rows, sampling=samplings, seed=st.integers(0, 99))
def test_transformers_filters_in_the_same_order_to_the_same_probabilities(
    logits: list[float], sampling: Sampling, seed: int
):
    logits_process = pytest.importorskip("transformers.generation.logits_process")
    recent = torch.randint(len(logits), (4,), generator=seeded(seed))
    row = torch.tensor(logits, dtype=torch.float64)[None]
    steps = [
        logits_process.RepetitionPenaltyLogitsProcessor(sampling.repeat_penalty),
        logits_process.TemperatureLogitsWarper(sampling.temperature),
        *([logits_process.TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []),
        *([logits_process.MinPLogitsWarper(sampling.min_p)] if sampling.min_p else []),
    ]
    for step in steps:
        row = step(recent[None], row)
    without_top_p = Sampling(  # theirs breaks ties at the edge of top-p by larger id, so it is left out here
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repeat_penalty=sampling.repeat_penalty,
        dry=0.0,  # theirs have none
    )
    ours = distribution(logits, recent.tolist(), without_top_p)
    np.testing.assert_allclose(ours, row[0].softmax(-1), rtol=1e-7, atol=1e-7)


@given(logits=logit_rows, seed=st.integers(0, 9))
def test_temperature_zero_takes_the_best_token_and_so_does_the_smallest_temperature(logits: list[float], seed: int):
    row = torch.tensor(logits)
    best = next_token(row, [], Sampling(temperature=0), seeded(seed))
    assert best == row.argmax()
    barely_warm = next_token(row, [], Sampling(temperature=5e-324), seeded(seed))
    assert row[barely_warm] == row[best]


@given(logits=logit_rows, sampling=samplings, seed=st.integers(0, 2**32))
def test_one_seed_draws_one_token(logits: list[float], sampling: Sampling, seed: int):
    first, again = (next_token(torch.tensor(logits), [0], sampling, seeded(seed)) for _ in range(2))
    assert first == again
    assert first in probabilities_by_definition(logits, [0], sampling)


def test_tokens_come_as_often_as_they_are_likely():
    weights = np.array([0.0, 5.0, 0.0, 3.0, 1.5, 0.5, 0.0])  # a draw needs no sum of 1
    generator, n = seeded(1), 20_000
    counts = np.bincount([draw(weights, generator) for _ in range(n)], minlength=len(weights))
    likely = weights > 0
    assert counts[~likely].sum() == 0
    expected = weights[likely] / weights.sum() * n
    chi_square = ((counts[likely] - expected) ** 2 / expected).sum()
    assert chi_square < 16.3  # 3 degrees of freedom: exceeded once in a thousand seeds


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.3, top_k=1), Sampling(top_p=0.1)])
@pytest.mark.parametrize("logit", [0.5, 3.5])  # 2 %, where every one of these settings would filter it out, and 30 %
def test_the_end_comes_as_often_as_the_model_says_whatever_the_filters(sampling: Sampling, logit: float):
    logits = torch.tensor([4.0, 3.0, 1.0, logit])
    generator, n = seeded(2), 5_000
    ended = sum(next_token(logits, [3], sampling, generator, end=3) == 3 for _ in range(n))
    expected = float(logits.softmax(-1)[3]) * n
    assert abs(ended - expected) < 3.3 * expected**0.5
    others = {next_token(logits, [], sampling, generator, end=3) for _ in range(500)} - {3}
    assert others <= probabilities_by_definition(logits[:3].tolist(), [], sampling).keys()


def test_an_end_that_is_certain_or_impossible_is_no_trouble():
    assert next_token(torch.tensor([-math.inf, 2.0]), [], Sampling(), seeded(0), end=1) == 1
    assert next_token(torch.tensor([2.0, -math.inf]), [], Sampling(), seeded(0), end=1) == 0
    assert next_token(torch.tensor([2.0, 1.0]), [], Sampling(temperature=0), seeded(0), end=1) == 0


def test_every_token_takes_one_number_from_the_generator():
    used, counted = seeded(3), seeded(3)
    for sampling in (OPEN, Sampling(top_k=3), Sampling(top_p=0.5)):
        next_token(torch.randn(50), [1, 2], sampling, used)
        torch.rand((), dtype=torch.float64, generator=counted)
        next_token(torch.randn(50), [1, 2], sampling, used, end=7)
        torch.rand((), dtype=torch.float64, generator=counted)
    assert torch.equal(used.get_state(), counted.get_state())


def test_only_the_latest_tokens_are_penalised_and_each_once():
    logits = torch.tensor([3.0, 2.9, -1.0, -1.05])
    greedy = Sampling(temperature=0, repeat_penalty=1.1)
    assert next_token(logits, [0, 0, 0], greedy, seeded(0)) == 1
    assert next_token(logits, [0] + [2] * REPEAT_WINDOW, greedy, seeded(0)) == 0
    assert logits.tolist() == torch.tensor([3.0, 2.9, -1.0, -1.05]).tolist()  # what is given stays
    penalised = logits.double().numpy()
    penalise_repeats(penalised, [0, 0, 2], 1.1)
    np.testing.assert_allclose(penalised, [3 / 1.1, 2.9, -1.1, -1.05], rtol=1e-6)


@example(tokens=[0] * 9, breaks=set(), longest=3)
@given(tokens=few_tokens, breaks=st.sets(st.integers(0, 3), max_size=1), longest=st.sampled_from([3, DRY_LONGEST]))
def test_a_token_loses_by_the_longest_run_that_it_goes_on_with(tokens: list[int], breaks: set[int], longest: int):
    def goes_on(token: int, n: int) -> bool:
        run = tokens[len(tokens) - n :]
        places = range(len(tokens) - n)
        return not breaks & set(run) and any(tokens[i : i + n + 1] == [*run, token] for i in places)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling_module, "DRY_LONGEST", longest)
        by_definition = longest_runs_by_definition(tokens, breaks)
        logits = np.zeros(4)
        penalise_loops(logits, tokens, 0.5, breaks)
    for token in range(4):
        n = max((n for n in range(1, min(longest, len(tokens) - 1) + 1) if goes_on(token, n)), default=0)
        assert by_definition.get(token, 0) == n
        assert -logits[token] == loss_by_dry(n, 0.5)


def test_a_loop_ends_however_sure_the_model_is_of_it():
    logits, said = torch.tensor([50.0, 0.0]), [0]
    while said[-1] == 0 and len(said) < 20:
        said.append(next_token(logits, said, Sampling(), seeded(0)))
    assert said[-1] == 1
    assert next_token(logits, said[:-1], Sampling(), seeded(0), breaks={0}) == 0
    long_ago = [*range(12), *range(12, 999), *range(11)]
    logits = torch.tensor([9.0 if token == 11 else 0.0 for token in range(1000)])
    assert next_token(logits, long_ago, Sampling(temperature=0), seeded(0)) != 11
    assert next_token(logits, long_ago[1:-11], Sampling(temperature=0), seeded(0)) == 11


def test_no_run_goes_across_what_sets_speech_and_lines_apart():
    tok = Tokenizer.train(['"Sing," said he.\n\n"I sing," said he.\n\n*'] * 3, vocab_size=270)
    texts = [tok.decode([token]) for token in range(tok.vocab_size)]
    breaks = {text for token, text in enumerate(texts) if token in breaks_of(tok)}
    assert breaks > {"\n", ":", '"', "*"}  # and what was joined of them
    assert all(bool(set(text) & set('\n:"*')) == (text in breaks) for text in texts)


@pytest.mark.parametrize("penalty", [2.0, 1e30, 1e39, 1e308])
@pytest.mark.parametrize("temperature", [0, 0.8])
def test_no_penalty_makes_a_forbidden_token_come_before_one_that_may(penalty: float, temperature: float):
    sampling, generator = Sampling(temperature=temperature, repeat_penalty=penalty), seeded(0)
    for logits in ([-1.0, -2.0, -math.inf], [0.0, -2.0, -math.inf], [3.0, 0.0, -math.inf]):
        for recent in ([0], [0, 1], [0, 1, 2]):
            assert {next_token(torch.tensor(logits), recent, sampling, generator) for _ in range(20)} <= {0, 1}


def test_logits_may_ask_for_gradients():
    assert next_token(torch.tensor([0.0, 1.0], requires_grad=True), [], Sampling(temperature=0), seeded(0)) == 1


def test_a_forbidden_token_never_comes():
    logits = torch.tensor([-math.inf, 1.0, -math.inf, 0.5])
    generator = seeded(5)
    for sampling in (OPEN, Sampling(temperature=50, min_p=0), Sampling(temperature=0), Sampling(top_k=4)):
        assert {next_token(logits, [0, 2], sampling, generator) for _ in range(50)} <= {1, 3}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0, 0.8])
def test_output_that_is_no_number_is_an_error_of_the_model(bad: float, temperature: float):
    with pytest.raises(ModelError, match="not a number"):
        next_token(torch.tensor([1.0, bad, 0.0]), [], Sampling(temperature=temperature), seeded(0))


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("temperature", [-0.1, math.inf, -math.inf, math.nan]),
        ("top_k", [-1]),
        ("top_p", [0.0, -0.5, 1.01, math.nan, math.inf]),
        ("min_p", [-0.01, 1.01, math.nan]),
        ("repeat_penalty", [0.0, 0.99, -1.0, math.inf, math.nan]),
        ("dry", [-0.1, math.inf, math.nan]),
    ],
)
def test_an_impossible_setting_is_refused_in_one_line_that_names_it(setting: str, values: list[float]):
    for value in values:
        with pytest.raises(ConfigError) as error:
            Sampling(**{setting: value})
        assert setting.replace("_", " ") in str(error.value).replace("-", " ")
        assert str(value) in str(error.value)
        assert "\n" not in str(error.value)
