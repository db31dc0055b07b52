"""The benchmark of long stories: rates that follow from moments, and the command on a small model."""

import json

import pytest

from benchmarks.beyond_context import CONTEXTS, STEP, main, moments, rates
from model.config import preset


def test_rates_are_tokens_over_the_time_of_each_step():
    assert rates([0, 1, 2, 4, 6, 6.5, 7, 9], 2) == [1.0, 0.5, 2.0]
    assert rates([0.0], 2) == []


def test_every_token_has_its_moment():
    times = moments(preset("nano", layers=1, width=64, vocab_size=2_000, context=16))
    assert times == sorted(times)
    assert CONTEXTS * 16 - 3 <= len(times) - 1 <= CONTEXTS * 16  # the last may be no characters


@pytest.mark.slow
def test_the_command_gives_every_hundred_and_every_context(capsys):
    assert main(["--preset", "nano", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert len(figures["hundreds"]) == CONTEXTS * 256 // STEP
    assert len(figures["contexts"]) == CONTEXTS
