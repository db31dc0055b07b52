"""What the tests of models share: one thread, and models whose weights are anything but special."""

from collections.abc import Callable

import pytest
import torch

from model.build import build
from model.config import ModelConfig
from model.language_model import LanguageModel


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small tensors gain nothing from threads, and one thread adds up in one order."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def perturbed() -> Callable[..., LanguageModel]:
    """A function from a config to a model with no weight at zero or one, which a new model's norms and outputs have."""

    def make(config: ModelConfig, *, seed: int = 0) -> LanguageModel:
        torch.manual_seed(seed)
        model = build(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model.eval()

    return make
