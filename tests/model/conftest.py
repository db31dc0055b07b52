"""What the tests of models share: one thread, models whose weights are anything but special, and a saved folder."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bpe import Tokenizer
from data.layout import SPECIAL_TOKENS
from model.build import build
from model.config import ModelConfig
from model.folder import save_folder
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


@pytest.fixture(scope="session")
def tokenizer_of() -> Callable[[str], Tokenizer]:
    """A function from a text to a tokenizer of 280 ids trained on it; other texts make others of the same size."""

    def train(text: str) -> Tokenizer:
        return Tokenizer.train([text] * 2, vocab_size=280, special_tokens=SPECIAL_TOKENS, workers=1)

    return train


@pytest.fixture(scope="session")
def cat_text() -> str:
    """What the tokenizer `tok` was trained on."""
    return "The cat sat on the mat. The hat of the cat sat there too, and that was that; the mat was flat."


@pytest.fixture(scope="session")
def tok(cat_text, tokenizer_of) -> Tokenizer:
    return tokenizer_of(cat_text)


@pytest.fixture(scope="session")
def config(tok) -> ModelConfig:
    """A small model for `tok`."""
    return ModelConfig(
        vocab_size=tok.vocab_size, context=32, width=32, layers=2, heads=4, kv_heads=2, hidden=48, head_size=8
    )


@pytest.fixture(scope="session")
def saved(tmp_path_factory, tok, config, perturbed) -> Path:
    """A folder that no test writes to."""
    folder = tmp_path_factory.mktemp("saved") / "pretrain"
    save_folder(folder, perturbed(config).state_dict(), config, tok, stage="pretrain")
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy of the saved folder, to be spoiled."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))
