"""A run as training makes one, whose weights and tokenizer come from chance, to measure speed on.

In: a model's shape.  Out: a folder, always with the same bits.
"""

import random
import string
from pathlib import Path

import torch
from torch import nn

from bpe import Tokenizer
from data.layout import SPECIAL_TOKENS
from model.build import LanguageModel, build
from model.config import ModelConfig
from model.folder import save_folder
from model.run import RunFolder

LOGITS = 3.0  # their standard deviation, as a trained model's: the filters leave a handful of tokens, not thousands


def save_random_run(shape: ModelConfig, run: Path) -> Path:
    """Make a run with a pretrained stage, of any preset but `classic`; the stage's folder."""
    tok, stage = random_tokenizer(shape.vocab_size), run / "pretrain"
    with RunFolder(run).writing(stage):
        save_folder(stage, random_model(shape, tok).state_dict(), shape, tok, stage=stage.name)
    return stage


def random_prompt(tok: Tokenizer, tokens: int) -> str:
    """A text of so many tokens."""
    text = "".join(random.Random(1).choices(string.ascii_lowercase, k=8 * tokens))
    return next(text[:i] for i in range(len(text)) if len(tok.encode(text[:i])) == tokens)


def random_tokenizer(vocab_size: int) -> Tokenizer:
    """A tokenizer of words of chance: what it knows does not matter here."""
    chance = random.Random(0)
    words = ["".join(chance.choices(string.ascii_lowercase, k=8)) for _ in range(vocab_size)]
    return Tokenizer.train([" ".join(words)] * 2, vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS)


def random_model(shape: ModelConfig, tok: Tokenizer) -> LanguageModel:
    """Weights of chance that keep the stream's scale, so that every part has a say; no special token ever leads."""
    torch.manual_seed(0)
    model = build(shape)
    for name, weights in model.named_parameters():
        if weights.dim() == 1:
            nn.init.normal_(weights, mean=1.0, std=0.1)
        else:
            nn.init.normal_(weights, std=(LOGITS if "embed" in name else 1.0) * weights.size(1) ** -0.5)
    with torch.no_grad():
        model.get_parameter("model.embed_tokens.weight")[list(tok.special_tokens.values())] = 0.0
    return model
