"""A saved folder is the model, and a save that is cut off leaves a whole model or none."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from bpe import Tokenizer
from bpe.errors import UserError
from model.config import ModelConfig, preset
from model.errors import ModelError
from model.folder import load_folder, save_folder, stage_of

FILES = {"tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json", "model.safetensors"}


@pytest.fixture(scope="module")
def classic_config(tok) -> ModelConfig:
    return preset("classic", vocab_size=tok.vocab_size, width=32, heads=4, layers=2, context=32)


@pytest.mark.parametrize("kind", ["config", "classic_config"])
def test_a_saved_model_is_loaded_bit_for_bit_with_its_tokenizer(kind, request, tmp_path, tok, perturbed, cat_text):
    config = request.getfixturevalue(kind)
    model = perturbed(config)
    save_folder(tmp_path / "new" / "folder", model.state_dict(), config, tok, stage="finetune")
    loaded, loaded_tok = load_folder(tmp_path / "new" / "folder")
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == FILES
    assert loaded.config == config
    assert not loaded.training
    assert loaded_tok.fingerprint == tok.fingerprint
    assert stage_of(tmp_path / "new" / "folder") == "finetune"
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    ids = torch.tensor([tok.encode(cat_text)[:32]])
    assert torch.equal(loaded(ids), model(ids))


def test_every_field_of_a_config_survives(tmp_path, tok, perturbed):
    config = ModelConfig(
        vocab_size=tok.vocab_size, context=7, width=10, layers=3, heads=6, kv_heads=2, hidden=9, head_size=4,
        rope_theta=500_000, norm_eps=1e-5,
    )  # fmt: skip
    save_folder(tmp_path, perturbed(config).state_dict(), config, tok, stage="pretrain")
    assert load_folder(tmp_path).model.config == config


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_of_any_floating_dtype_are_loaded_in_the_dtype_asked_for(dtype, tmp_path, tok, config, perturbed):
    model = perturbed(config).to(dtype)
    save_folder(tmp_path, model.state_dict(), config, tok, stage="pretrain")
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    for asked in (torch.float32, torch.bfloat16):
        loaded = load_folder(tmp_path, dtype=asked).model
        weight = loaded.state_dict()["model.norm.weight"]
        assert weight.dtype == asked
        assert torch.equal(weight, model.state_dict()["model.norm.weight"].to(asked))


def test_a_loaded_model_can_be_trained(saved):
    model = load_folder(saved).model.train()
    model(torch.arange(8)[None]).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_loaded_model_does_not_change_when_its_file_does(folder):
    model = load_folder(folder).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(2_000)
        file.write(bytes(1_000))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_tied_tensor_is_stored_once(saved, config):
    with safe_open(saved / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
        assert sum(file.get_tensor(name).numel() for name in names) == config.num_parameters
        assert file.metadata()["format"] == "pt"
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names


def test_a_save_killed_between_two_files_leaves_what_loads_rightly_or_is_refused(
    saved, tmp_path, tok, config, perturbed, monkeypatch, cat_text, tokenizer_of
):
    """Every prefix of the write order over an older model, of the same and of another config, tokenizer and stage."""
    other_tok = tokenizer_of(cat_text.replace("cat", "dog"))
    newer = {
        "the same config": (config, tok, "pretrain"),
        "another theta": (dataclasses.replace(config, rope_theta=99.0), tok, "pretrain"),
        "another shape": (dataclasses.replace(config, hidden=40), tok, "pretrain"),
        "another tokenizer": (config, other_tok, "pretrain"),
        "another stage": (config, tok, "finetune"),
    }
    order = []
    replace = os.replace
    monkeypatch.setattr("os.replace", lambda source, target: (order.append(Path(target).name), replace(source, target)))
    old = load_folder(saved)
    for number, (case, (new_config, new_tok, stage)) in enumerate(newer.items()):
        new_model, order[:] = perturbed(new_config, seed=1), []
        new = tmp_path / f"new{number}"
        save_folder(new, new_model.state_dict(), new_config, new_tok, stage=stage)
        assert set(order) == FILES, case
        assert order[-1] == "model.safetensors"
        for written in range(len(order) + 1):
            folder = Path(shutil.copytree(saved, tmp_path / f"{number}-{written}"))
            for name in order[:written]:
                shutil.copy(new / name, folder / name)
            whole = written == len(order)
            weights, expected = (
                (new_model, (new_config, new_tok, stage)) if whole else (old.model, (config, tok, "pretrain"))
            )
            try:
                loaded, loaded_tok = load_folder(folder)
            except ModelError:
                assert not whole, case
                assert case != "the same config"
                continue
            assert loaded.config == expected[0], case
            assert loaded_tok.fingerprint == expected[1].fingerprint, case
            assert stage_of(folder) == expected[2], case
            assert all(map(torch.equal, loaded.parameters(), weights.parameters())), case


def test_a_full_disk_leaves_the_old_model(folder, tok, config, perturbed, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left"):
        save_folder(folder, perturbed(config, seed=1).state_dict(), config, tok, stage="pretrain")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_model_is_not_saved_with_a_tokenizer_of_another_size_or_without_our_special_tokens(
    tmp_path, tok, config, perturbed, cat_text
):
    bare = Tokenizer.train([cat_text], vocab_size=256, workers=1)
    weights = perturbed(config).state_dict()
    with pytest.raises(ModelError, match="256"):
        save_folder(tmp_path, weights, config, bare, stage="pretrain")
    bare_config = ModelConfig(vocab_size=256, context=8, width=8, layers=1, heads=1, kv_heads=1, hidden=8)
    with pytest.raises(ModelError, match="lacks"):
        save_folder(tmp_path, perturbed(bare_config).state_dict(), bare_config, bare, stage="pretrain")
    assert list(tmp_path.iterdir()) == []
