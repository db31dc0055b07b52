"""From a config to a model.

In: a ModelConfig.  Out: a LanguageModel of that design, freshly initialised.
"""

from model.classic import Classic
from model.config import ModelConfig
from model.language_model import LanguageModel
from model.transformer import Transformer

__all__ = ["LanguageModel", "build"]


def build(config: ModelConfig, *, dropout: float = 0.0) -> LanguageModel:
    """A new model of `config`'s shape and design, on torch's default device, its weights drawn by torch's generator."""
    return Classic(config, dropout) if config.kind == "classic" else Transformer(config, dropout)
