"""Laws of averaged weights: the running mean is the mean, and standing in for the latest changes nothing."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model.averaging import EVERY, POWER, Average


def set_weights(model: nn.Linear, step: int) -> nn.Linear:
    """Give the model weights that are a function of the step."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.linspace(0, 1, parameter.numel()).reshape(parameter.shape) + step * 37 % 101)
    return model


@settings(max_examples=30)
@given(steps=st.integers(1, 200))
def test_the_running_mean_is_the_weighted_mean_of_all_that_were_taken(steps: int) -> None:
    model = nn.Linear(2, 3)
    average = Average(model)
    for step in range(1, steps + 1):
        average.include(set_weights(model, step), step)
    taken = [set_weights(nn.Linear(2, 3), step).weight.double() for step in range(1, steps + 1, EVERY)]
    n = len(taken)
    counts = [(i**POWER - (i - 1) ** POWER) / n**POWER for i in range(1, n + 1)]
    definition = sum(count * weights for count, weights in zip(counts, taken, strict=True))
    torch.testing.assert_close(average.weights["weight"].double(), definition, rtol=1e-5, atol=1e-5)


def test_the_mean_is_the_same_share_of_a_short_and_of_a_long_training_old() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = Average(model)
    ages = []
    for step in range(1, 1 + EVERY * 400):
        nn.init.constant_(model.weight, step)
        average.include(model, step)
        if step in (EVERY * 100, EVERY * 400):
            ages.append(1 - average.weights["weight"].item() / step)
    assert all(abs(age - 1 / (POWER + 1)) < 0.01 for age in ages)


@given(seed=st.integers(1, 1000))
def test_the_model_has_the_averaged_weights_within_the_block_and_its_own_after_it(seed: int) -> None:
    model, average = set_weights(nn.Linear(2, 3), seed), Average(set_weights(nn.Linear(2, 3), seed + 1))
    own = {name: (tensor, tensor.clone()) for name, tensor in model.state_dict().items()}
    averaged = {name: tensor.clone() for name, tensor in average.weights.items()}
    with average.in_place_of_latest(model):
        assert all(torch.equal(tensor, averaged[name]) for name, tensor in model.state_dict().items())
    for name, tensor in model.state_dict().items():
        same, before = own[name]
        assert tensor.data_ptr() == same.data_ptr() and torch.equal(tensor, before)
        assert torch.equal(average.weights[name], averaged[name])
