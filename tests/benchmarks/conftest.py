"""What the tests of benchmarks share: a folder that is a finetuned run and holds pairs."""

from pathlib import Path

import pytest
import torch

from bpe import Tokenizer
from data.layout import SPECIAL_TOKENS
from model.build import build
from model.config import ModelConfig
from model.folder import save_folder


@pytest.fixture
def run_and_pairs(tmp_path: Path) -> Path:
    torch.set_num_threads(1)  # small tensors gain nothing from more
    torch.manual_seed(0)
    text = "the ship sank and the man swam to the shore, where the woman held the child and the sea fell. " * 3
    tok = Tokenizer.train([text], vocab_size=290, special_tokens=SPECIAL_TOKENS)
    config = ModelConfig(vocab_size=290, layers=1, width=64, heads=2, kv_heads=1, hidden=64, head_size=32, context=32)
    save_folder(tmp_path / "finetune", build(config).state_dict(), config, tok, stage="finetune")
    for split in ("train", "valid"):
        (tmp_path / f"{split}.wp_source").write_text("[ WP ] the ship\n[ WP ] the sea\n[ WP ] the ship\n")
        (tmp_path / f"{split}.wp_target").write_text(f"{text} {split} one\n{text} {split} two\n{text} {split} too\n")
    return tmp_path
