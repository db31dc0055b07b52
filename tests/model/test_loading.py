"""Laws of finding and loading what was trained."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import model.products
from bpe import Tokenizer
from data.layout import SPECIAL_TOKENS
from model import load
from model.build import build
from model.classic import Classic
from model.config import ModelConfig, preset
from model.errors import ModelError
from model.folder import save_folder
from model.fused import FusedTransformer
from model.loading import default_run, find_stage, load_stage
from model.products import fastest
from model.quantize import Biased, Int4Linear, Int8Linear

ROOT = Path(__file__).resolve().parents[2]
TOK = Tokenizer.train(["the man swam to the ship; the ship sank"] * 2, vocab_size=262, special_tokens=SPECIAL_TOKENS)
SHAPE = {"layers": 1, "width": 64, "heads": 1, "kv_heads": 1, "hidden": 64, "context": 16}


def save_stage(folder: Path, saved_at: float = 1e9) -> Path:
    model = build(ModelConfig(vocab_size=TOK.vocab_size, **SHAPE))
    save_folder(folder, model.state_dict(), model.config, TOK, stage=folder.name)
    os.utime(folder / "model.safetensors", (saved_at, saved_at))
    return folder


def test_a_run_stands_for_its_finetune_stage_else_its_pretrain_stage(tmp_path):
    pretrain = save_stage(tmp_path / "pretrain")
    assert find_stage(tmp_path) == pretrain == find_stage(pretrain)
    assert load(tmp_path)[0].stage == "pretrain"
    finetune = save_stage(tmp_path / "finetune")
    assert find_stage(tmp_path) == finetune
    assert load(tmp_path)[0].stage == "finetune"
    assert load(pretrain)[0].stage == "pretrain"


def test_a_stage_that_is_only_begun_is_passed_over(tmp_path):
    pretrain = save_stage(tmp_path / "pretrain")
    (tmp_path / "finetune").mkdir()
    assert find_stage(tmp_path) == pretrain


def test_what_is_loaded_is_what_was_saved_ready_to_write(tmp_path):
    torch.manual_seed(0)
    saved = build(ModelConfig(vocab_size=TOK.vocab_size, **SHAPE))
    save_folder(tmp_path / "finetune", saved.state_dict(), saved.config, TOK, stage="finetune")
    loaded, tok = load(tmp_path / "finetune", device="cpu")
    assert tok == TOK
    assert not loaded.training
    ids = torch.tensor([TOK.encode("the man")])
    torch.testing.assert_close(loaded(ids), saved(ids), atol=1e-3, rtol=0)  # float16 weights
    exact, _ = load(tmp_path / "finetune", "cpu", "float32")
    torch.testing.assert_close(exact(ids), saved(ids))


@pytest.mark.parametrize("loops", [True, False])
def test_weights_have_the_format_asked_for_or_the_fastest_here(tmp_path, loops, monkeypatch):
    """On the CPU; the definition, which is for scoring, is float32 there unless told otherwise."""
    if loops and not model.products.HAS_LOOPS:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(model.products, "HAS_LOOPS", loops)
    save_stage(tmp_path / "finetune")
    fastest_here = torch.float16 if loops else torch.float32
    formats = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    for name, dtype in (formats | {None: fastest_here}).items():
        assert load(tmp_path, "cpu", name)[0].embedding.weight.dtype == dtype
    for name, dtype in (formats | {None: torch.float32}).items():
        assert {parameter.dtype for parameter in load_stage(tmp_path, "cpu", name)[0].parameters()} == {dtype}


@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_on_the_cpu_a_transformer_comes_laid_out_for_writing(tmp_path, quantize):
    save_stage(tmp_path / "pretrain")
    laid_out, _ = load(tmp_path, "cpu", quantize=quantize)
    assert laid_out.stage == "pretrain"
    assert isinstance(laid_out, FusedTransformer)
    products = {None: type(fastest([torch.ones(1, 1)])), "int8": Int8Linear, "int4": Int4Linear}
    assert {type(product) for product in laid_out.products} == {products[quantize]}


def test_a_classic_model_is_its_own_layout(tmp_path):
    classic = build(preset("classic", layers=1, width=64, heads=1, hidden=64, context=16, vocab_size=TOK.vocab_size))
    save_folder(tmp_path / "finetune", classic.state_dict(), classic.config, TOK, stage="finetune")
    assert isinstance(load(tmp_path, "cpu")[0], Classic)
    layers = [module for module in load(tmp_path, "cpu", quantize="int4")[0].modules() if isinstance(module, Biased)]
    assert {type(layer.product) for layer in layers} == {Int4Linear}


def test_the_default_run_is_story_else_the_one_saved_last(tmp_path):
    with pytest.raises(ModelError, match="make story"):
        default_run(tmp_path)
    save_stage(tmp_path / "older" / "finetune", 10)
    save_stage(tmp_path / "newer" / "finetune", 20)
    save_stage(tmp_path / "newer" / "pretrain", 5)
    save_stage(tmp_path / "newest" / "attempt", 30)  # no stage of ours
    assert default_run(tmp_path) == tmp_path / "newer"
    (tmp_path / "story" / "pretrain").mkdir(parents=True)
    assert default_run(tmp_path) == tmp_path / "newer"
    save_stage(tmp_path / "story" / "pretrain", 1)
    assert default_run(tmp_path) == tmp_path / "story"


def test_load_and_generate_are_the_packages_own_and_cost_nothing_before_they_are_used():
    script = (
        "import sys, model, model.config\n"
        "assert 'torch' not in sys.modules\n"
        "import model.loading, model.story\n"
        "from model import generate, load\n"
        "assert (generate, load) == (model.story.generate, model.loading.load)\n"
        "assert not hasattr(model, 'nonsense')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow  # it starts an interpreter and torch
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_loading_brings_no_library_that_is_not_needed(tmp_path, quantize):
    """torch would import sympy, and with it a second passes, to draw numbers for a model without any."""
    save_stage(tmp_path / "finetune")
    script = f"""
import sys
from model import load
load({str(tmp_path)!r}, "cpu", quantize={quantize!r})
print(*(name for name in ("sympy", "torch._dynamo", "transformers", "matplotlib") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
