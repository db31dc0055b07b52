"""A model's shape and its tokenizer's habits in the words of Hugging Face's files, and back.

In: a ModelConfig and a Tokenizer.  Out: what config.json, generation_config.json and tokenizer_config.json hold; and
from a config.json, whoever wrote it, the ModelConfig. Pure values: reading and writing files is model/folder.py's.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import torch

from bpe import Tokenizer
from data.layout import END, PROMPT, SPECIAL_TOKENS, STORY
from model.config import Kind, ModelConfig
from model.errors import ModelError
from model.story_settings import Sampling

OURS = "llm_bpe"  # the key of config.json that is this project's own
ARCHITECTURES: dict[Kind, str] = {"qwen3": "Qwen3ForCausalLM", "classic": "LLMBPEClassic"}
MODEL_TYPES: dict[Kind, str] = {"qwen3": "qwen3", "classic": "llm-bpe-classic"}
SIZES = {  # ours: theirs
    "vocab_size": "vocab_size",
    "context": "max_position_embeddings",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "hidden": "intermediate_size",
    "head_size": "head_dim",
    "norm_eps": "rms_norm_eps",
}
FIXED = {  # what config.json may say otherwise and the transformer here cannot be: the key, the value it has to have
    "tie_word_embeddings": True,
    "attention_bias": False,
    "use_sliding_window": False,
    "hidden_act": "silu",
}
# As data/layout.py lays out a pair: the prompt is what the user says, the story is the answer.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '" + END + PROMPT + "' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '" + STORY + "' + message['content'] + '" + END + "' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + STORY + "' }}{% endif %}"
)


def config_json(config: ModelConfig, tok: Tokenizer, *, stage: str, dtype: torch.dtype) -> dict[str, Any]:
    """What config.json holds: the model for transformers 4.51 and later, and our own part under `llm_bpe`."""
    name = str(dtype).removeprefix("torch.")
    return {
        "architectures": [ARCHITECTURES[config.kind]],
        "model_type": MODEL_TYPES[config.kind],
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "layer_types": ["full_attention"] * config.layers,
        **FIXED,
        "tie_word_embeddings": config.kind == "qwen3",
        "attention_dropout": 0.0,
        "dtype": name,
        "torch_dtype": name,  # the key of transformers 4
        **_token_ids(tok),
        OURS: {"stage": stage, "tokenizer": tok.fingerprint, "kind": config.kind},
    }


def generation_config_json(tok: Tokenizer) -> dict[str, Any]:
    """What generation_config.json holds: how stories are sampled here, in transformers' words."""
    sampling = Sampling()
    return {
        **_token_ids(tok),
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repeat_penalty,
    }


def tokenizer_config_json(config: ModelConfig) -> dict[str, Any]:
    """What tokenizer_config.json holds; without the class named, transformers would pick Qwen2's own tokenizer."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.context,
        "clean_up_tokenization_spaces": False,
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "chat_template": CHAT_TEMPLATE,
    }


def read_config(found: Mapping[str, Any], path: object) -> ModelConfig:
    """The ModelConfig that a config.json describes; `path` is for messages.

    Raises ModelError when it describes a model that is not here, lacks a size, or has an impossible one.
    """
    kinds = {model_type: kind for kind, model_type in MODEL_TYPES.items()}
    model_type = found.get("model_type")
    if not isinstance(model_type, str) or model_type not in kinds:
        known = " and ".join(map(repr, kinds))
        raise ModelError(f"{path} describes a model of type {model_type!r}; only {known} can be loaded here")
    missing = [key for key in SIZES.values() if key not in found]
    if missing:
        raise ModelError(f"{path} says nothing of {', '.join(missing)}; take the config.json the weights came with")
    rope = found.get("rope_parameters") or found.get("rope_scaling") or {}
    rope = rope if isinstance(rope, dict) else {"rope_type": rope}
    theta = rope.get("rope_theta", found.get("rope_theta"))
    kind = kinds[model_type]
    if kind == "qwen3":
        wrong = {key: found[key] for key, value in FIXED.items() if found.get(key, value) != value}
        rope_type = rope.get("rope_type", rope.get("type", "default"))
        if rope_type != "default":
            wrong["rope_type"] = rope_type
        if wrong:
            values = ", ".join(f"{key} {value!r}" for key, value in wrong.items())
            raise ModelError(
                f"{path} describes a variant of Qwen3 that is not here ({values}); load it with transformers"
            )
    try:
        sizes: dict[str, Any] = {ours: found[theirs] for ours, theirs in SIZES.items()}
        return ModelConfig(kind=kind, rope_theta=cast(float, theta), **sizes)
    except ModelError as error:
        raise ModelError(f"{path} is not possible: {error}") from error


def config_fingerprint(config: ModelConfig, stage: str) -> str:
    """16 hexadecimal digits that differ where a shape, another setting of the model, or the stage does."""
    values = asdict(config) | {
        "rope_theta": float(config.rope_theta),
        "norm_eps": float(config.norm_eps),
        "stage": stage,
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _token_ids(tok: Tokenizer) -> dict[str, int]:
    missing = [token for token in SPECIAL_TOKENS if token not in tok.special_tokens]
    if missing:
        raise ModelError(f"the tokenizer lacks {', '.join(missing)}; train one with special_tokens {SPECIAL_TOKENS}")
    end = tok.special_tokens[END]
    return {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
