"""What is missing, damaged, foreign or of another model is refused in one line that names it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from bpe import Tokenizer
from bpe.errors import UserError
from data.layout import SPECIAL_TOKENS
from model.folder import load_folder


def change_json(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def refusal(folder: Path) -> str:
    """The one line with which a folder is refused."""
    with pytest.raises(UserError) as error:
        load_folder(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    assert "config.json" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(name, folder):
    (folder / name).unlink()
    assert name in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b"null"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_file_is_named(name, content, folder):
    (folder / name).write_bytes(content)
    assert name in refusal(folder)


def test_weights_cut_anywhere_are_refused(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for length in (1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "model.safetensors" in refusal(folder)


def test_pickled_weights_are_not_loaded(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "never loaded" in refusal(folder)


def test_weights_in_several_files_are_not_loaded(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    assert "several files" in refusal(folder)


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "head_dim", "rms_norm_eps"])
def test_a_config_that_lacks_a_size_is_refused_naming_it(key, folder):
    change_json(folder / "config.json", lambda config: config.pop(key))
    assert key in refusal(folder)


def test_a_config_without_any_theta_is_refused(folder):
    change_json(folder / "config.json", lambda config: (config.pop("rope_theta"), config.pop("rope_parameters")))
    assert "rope_theta" in refusal(folder)


@pytest.mark.parametrize("value", ["llama", None, 3, ["qwen3"]])
def test_an_unknown_model_type_is_refused_naming_those_there_are(value, folder):
    change_json(folder / "config.json", lambda config: config.update(model_type=value))
    message = refusal(folder)
    assert repr(value) in message
    assert "'qwen3' and 'llm-bpe-classic'" in message


@pytest.mark.parametrize(
    "change",
    [
        {"tie_word_embeddings": False},
        {"attention_bias": True},
        {"hidden_act": "gelu"},
        {"use_sliding_window": True},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
        {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 4.0}},
    ],
)
def test_a_variant_of_qwen3_that_is_not_here_is_refused(change, folder):
    change_json(folder / "config.json", lambda config: config.update(change))
    assert "variant" in refusal(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 0),
        ("hidden_size", "32"),
        ("num_hidden_layers", 1.5),
        ("num_key_value_heads", 3),
        ("head_dim", 7),
    ],
)
def test_an_impossible_size_in_a_config_is_refused_naming_the_file(key, value, folder):
    change_json(folder / "config.json", lambda config: config.update({key: value}))
    assert "config.json is not possible" in refusal(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 64),
        ("intermediate_size", 47),
        ("num_hidden_layers", 1),
        ("num_hidden_layers", 3),
        ("head_dim", 16),
    ],
)
def test_weights_of_another_shape_than_the_config_are_refused(key, value, folder):
    change_json(folder / "config.json", lambda config: config.update({key: value}))
    assert "another model than config.json describes" in refusal(folder)


@pytest.mark.parametrize(("key", "value"), [("rms_norm_eps", 1e-3), ("max_position_embeddings", 31)])
def test_a_config_whose_settings_are_not_those_of_the_weights_is_refused(key, value, folder):
    change_json(folder / "config.json", lambda config: config.update({key: value}))
    assert "belongs to config" in refusal(folder)


def test_weights_of_integers_are_refused(folder):
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.int8)
    safetensors.torch.save_file(tensors, path)
    assert "int8" in refusal(folder)


def test_another_tokenizer_is_refused_with_both_fingerprints(folder, tok, cat_text, tokenizer_of):
    other = tokenizer_of(cat_text.replace("cat", "dog"))
    other.save(folder / "tokenizer.json")
    message = refusal(folder)
    assert tok.fingerprint in message
    assert other.fingerprint in message


def test_another_tokenizer_is_refused_though_only_the_config_says_whose_it_is(folder, tok, cat_text, tokenizer_of):
    path = folder / "model.safetensors"
    safetensors.torch.save_file(safetensors.torch.load_file(path), path)
    load_folder(folder)
    tokenizer_of(cat_text.replace("cat", "dog")).save(folder / "tokenizer.json")
    assert tok.fingerprint in refusal(folder)


def test_a_tokenizer_of_another_size_is_refused_with_both_sizes(folder, tok, cat_text):
    path = folder / "model.safetensors"
    safetensors.torch.save_file(safetensors.torch.load_file(path), path)  # drops what says whose they are
    change_json(folder / "config.json", lambda config: config.pop("llm_bpe"))
    Tokenizer.train([cat_text], vocab_size=260, special_tokens=SPECIAL_TOKENS, workers=1).save(
        folder / "tokenizer.json"
    )
    message = refusal(folder)
    assert "260" in message
    assert str(tok.vocab_size) in message
