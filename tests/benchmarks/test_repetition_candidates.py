"""Laws of the ways to hold down repetition that are being compared, and the command on a small run."""

import json
import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.repetition_candidates import HeldStory, main, no_repeat
from model.loading import load
from model.story import Story
from model.story_settings import Sampling

few_tokens = st.lists(st.integers(0, 3), max_size=25)


@given(few_tokens, st.integers(2, 5))
def test_no_repeat_takes_all_from_what_would_make_a_run_twice(tokens: list[int], n: int):
    runs = [tokens[i : i + n] for i in range(len(tokens) - n + 1)]
    twice = {token for token in range(4) if len(tokens) >= n - 1 and [*tokens[len(tokens) - n + 1 :], token] in runs}
    assert no_repeat(n, tokens) == dict.fromkeys(twice, math.inf)


def test_a_penalty_leaves_the_end_its_probability_and_none_changes_nothing(run_and_pairs, monkeypatch):
    model, tok = load(run_and_pairs, device="cpu")
    given_logits = []

    def first(logits, *_, **__):
        given_logits.append(logits)
        return int(logits.argmax())

    monkeypatch.setattr("model.story.next_token", first)
    logits = torch.randn(tok.vocab_size)
    how = {"max_tokens": 9, "seed": 1}
    held = HeldStory(lambda tokens: {5: math.inf, 7: 2.0}, model, tok, "the ship", **how)
    held.tokens = [9]
    held.go_on(logits)
    before, after = logits.double().softmax(-1), given_logits[0].softmax(-1)
    assert float(after[held.end]) == pytest.approx(float(before[held.end]), rel=1e-2)  # two tokens never come at all
    assert float(after[5]) == 0.0
    assert float(after[7] / after[8]) == pytest.approx(float(before[7] / before[8]) * math.exp(-2))
    monkeypatch.undo()
    stories = [HeldStory(lambda tokens: {}, model, tok, "the ship", **how), Story(model, tok, "the ship", **how)]
    assert len({"".join(story) for story in stories}) == 1
    assert len(stories[0].bits) >= len(stories[0].tokens)


def test_no_run_of_n_tokens_comes_twice_where_that_is_asked_for(run_and_pairs):
    model, tok = load(run_and_pairs, device="cpu")
    greedy = {
        "sampling": Sampling(temperature=0, repeat_penalty=1, dry=0),
        "max_tokens": 60,
        "ending": "cut",
        "seed": 0,
    }
    for n in (3, 4):
        story = HeldStory(partial(no_repeat, n), model, tok, "the ship", **greedy)
        list(story)
        runs = [tuple(story.tokens[i : i + n]) for i in range(len(story.tokens) - n + 1)]
        assert len(runs) == len(set(runs)) > 9


@pytest.mark.slow
def test_every_method_stands_beside_people_with_what_it_costs(run_and_pairs, capsys):
    arguments = [str(run_and_pairs), "--pairs", str(run_and_pairs), "--num", "2"]
    assert main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["figures"]
    assert list(rows)[:4] == ["people", "nothing", "penalty 1.05", "penalty 1.1"]
    assert {"no-repeat 4", "DRY", "DRY + penalty 1.1"} < rows.keys()
    assert "bits" not in rows["people"]
    assert all(row["bits"] > 0 for name, row in rows.items() if name != "people")
    assert main(arguments) == 0
    assert "bits" in capsys.readouterr().out.splitlines()[1]
