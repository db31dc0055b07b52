"""A saved folder is the model, to us and to transformers; anything else in its place is refused in one line."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from bpe import Tokenizer
from bpe.errors import UserError
from data.layout import END, PROMPT, SPECIAL_TOKENS, STORY, prompt_tokens
from model.config import ModelConfig, preset
from model.errors import ModelError
from model.folder import load_folder, save_folder, stage_of

TEXT = "The cat sat on the mat. The hat of the cat sat there too, and that was that; the mat was flat."
FILES = {"tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json", "model.safetensors"}
# Full size up to `small`; above that the same widths and heads with fewer layers, so that the test stays quick.
FAMILIES = {"nano": {}, "micro": {}, "small": {}} | {
    name: {"layers": 2} for name in ("medium", "storygpt", "story", "large")
}


def tokenizer(text: str) -> Tokenizer:
    return Tokenizer.train([text] * 2, vocab_size=280, special_tokens=SPECIAL_TOKENS, workers=1)


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return tokenizer(TEXT)


@pytest.fixture(scope="module")
def config(tok) -> ModelConfig:
    return ModelConfig(
        vocab_size=tok.vocab_size, context=32, width=32, layers=2, heads=4, kv_heads=2, hidden=48, head_size=8
    )


@pytest.fixture(scope="module")
def classic_config(tok) -> ModelConfig:
    return preset("classic", vocab_size=tok.vocab_size, width=32, heads=4, layers=2, context=32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tok, config, perturbed) -> Path:
    """A folder that no test writes to."""
    folder = tmp_path_factory.mktemp("saved") / "pretrain"
    save_folder(folder, perturbed(config).state_dict(), config, tok, stage="pretrain")
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy of the saved folder, to be spoiled."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


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


# --- what is saved is what is loaded


@pytest.mark.parametrize("kind", ["config", "classic_config"])
def test_a_saved_model_is_loaded_bit_for_bit_with_its_tokenizer(kind, request, tmp_path, tok, perturbed):
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
    ids = torch.tensor([tok.encode(TEXT)[:32]])
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


# --- what transformers makes of it


@pytest.mark.slow  # it makes and loads models of full width
@pytest.mark.parametrize("name", FAMILIES)
def test_transformers_computes_the_same_logits(name, tmp_path, tok, perturbed):
    from transformers import AutoModelForCausalLM, Qwen3ForCausalLM

    config = preset(name, vocab_size=tok.vocab_size, **FAMILIES[name])
    model = perturbed(config)
    save_folder(tmp_path, model.state_dict(), config, tok, stage="pretrain")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(theirs, Qwen3ForCausalLM)
    assert theirs.num_parameters() == config.num_parameters
    ids = torch.randint(0, tok.vocab_size, (2, min(config.context, 160)))
    with torch.no_grad():
        logits = model(ids)
        torch.testing.assert_close(theirs(ids).logits, logits, atol=1e-4, rtol=0)
    assert logits.std() > 0.1  # or equality would say little


def test_transformers_generates_what_the_logits_say(saved, tok):
    from transformers import AutoModelForCausalLM

    model, theirs = load_folder(saved).model, AutoModelForCausalLM.from_pretrained(saved)
    start = torch.tensor([prompt_tokens(tok, "The cat")]).long()
    ids, cache = start, model.new_cache(1)
    with torch.no_grad():
        logits = model(ids, cache=cache)
        for _ in range(10):
            ids = torch.cat((ids, logits[:, -1:].argmax(dim=2)), dim=1)
            logits = model(ids[:, -1:], cache=cache)
    generated = theirs.generate(start, do_sample=False, repetition_penalty=1.0, min_new_tokens=10, max_new_tokens=10,
                                temperature=1.0, min_p=0.0, attention_mask=torch.ones_like(start))  # fmt: skip
    assert generated.tolist() == ids.tolist()


@pytest.mark.parametrize("text", [TEXT, "cafe\u0301 naïve", f"a{END}b{PROMPT}{STORY}", "  two\n\n lines \t", ""])
def test_the_tokenizer_of_transformers_gives_the_same_ids(text, saved, tok):
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(saved)
    ids = tok.encode(text, allow_special=True)
    assert theirs(text)["input_ids"] == ids
    assert theirs.decode(ids) == text
    assert len(theirs) == tok.vocab_size
    assert {theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id} == {tok.special_tokens[END]}


def test_the_chat_template_lays_a_pair_out_as_training_does(saved, tok):
    from transformers import AutoTokenizer

    theirs, prompt, story = AutoTokenizer.from_pretrained(saved), "A cat,\n a hat", " The mat.\n\nIt sat. "
    asked = [{"role": "user", "content": prompt}]
    told = [*asked, {"role": "assistant", "content": story}]
    start = [int(id) for id in prompt_tokens(tok, prompt)]
    assert theirs.apply_chat_template(asked, add_generation_prompt=True, return_dict=False) == start
    pair = [*start, *tok.encode(story), tok.special_tokens[END]]
    assert theirs.apply_chat_template(told, return_dict=False) == pair


def test_a_folder_that_transformers_saved_is_loaded(saved, tok, config, tmp_path):
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(saved).save_pretrained(tmp_path)
    tok.save(tmp_path / "tokenizer.json")
    ours, theirs = load_folder(saved).model, load_folder(tmp_path).model
    assert theirs.config == config
    ids = torch.arange(20)[None]
    assert torch.equal(ours(ids), theirs(ids))


def test_a_model_that_transformers_made_by_itself_is_loaded(tok, tmp_path):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    theirs = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=tok.vocab_size, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16, max_position_embeddings=64, tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip
    theirs.save_pretrained(tmp_path)
    tok.save(tmp_path / "tokenizer.json")
    assert stage_of(tmp_path) is None
    ids = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(load_folder(tmp_path).model(ids), theirs(ids).logits, atol=1e-4, rtol=0)


# --- a kill while saving


def test_a_save_killed_between_two_files_leaves_what_loads_rightly_or_is_refused(
    saved, tmp_path, tok, config, perturbed, monkeypatch
):
    """Every prefix of the write order over an older model, of the same and of another config, tokenizer and stage."""
    other_tok = tokenizer(TEXT.replace("cat", "dog"))
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


# --- what is refused


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


def test_another_tokenizer_is_refused_with_both_fingerprints(folder, tok):
    other = tokenizer(TEXT.replace("cat", "dog"))
    other.save(folder / "tokenizer.json")
    message = refusal(folder)
    assert tok.fingerprint in message
    assert other.fingerprint in message


def test_another_tokenizer_is_refused_though_only_the_config_says_whose_it_is(folder, tok):
    path = folder / "model.safetensors"
    safetensors.torch.save_file(safetensors.torch.load_file(path), path)
    load_folder(folder)
    tokenizer(TEXT.replace("cat", "dog")).save(folder / "tokenizer.json")
    assert tok.fingerprint in refusal(folder)


def test_a_tokenizer_of_another_size_is_refused_with_both_sizes(folder, tok):
    path = folder / "model.safetensors"
    safetensors.torch.save_file(safetensors.torch.load_file(path), path)  # drops what says whose they are
    change_json(folder / "config.json", lambda config: config.pop("llm_bpe"))
    Tokenizer.train([TEXT], vocab_size=260, special_tokens=SPECIAL_TOKENS, workers=1).save(folder / "tokenizer.json")
    message = refusal(folder)
    assert "260" in message
    assert str(tok.vocab_size) in message


def test_a_model_is_not_saved_with_a_tokenizer_of_another_size_or_without_our_special_tokens(
    tmp_path, tok, config, perturbed
):
    bare = Tokenizer.train([TEXT], vocab_size=256, workers=1)
    weights = perturbed(config).state_dict()
    with pytest.raises(ModelError, match="256"):
        save_folder(tmp_path, weights, config, bare, stage="pretrain")
    bare_config = ModelConfig(vocab_size=256, context=8, width=8, layers=1, heads=1, kv_heads=1, hidden=8)
    with pytest.raises(ModelError, match="lacks"):
        save_folder(tmp_path, perturbed(bare_config).state_dict(), bare_config, bare, stage="pretrain")
    assert list(tmp_path.iterdir()) == []
