"""A stage's folder: a complete Hugging Face model folder, which is also all that this project needs to load the model.

In: weights, their config and their tokenizer.  Out: a folder, and from a folder the model and its tokenizer.

    tokenizer.json  tokenizer_config.json  generation_config.json  config.json  model.safetensors      (in this order)

The weights are written last and say in their metadata which tokenizer and config they belong to. So a kill between two
files leaves the old model where nothing but weights was to change, and else a folder that is refused by name, never one
that loads and speaks another vocabulary.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bpe import Tokenizer
from bpe.files import atomic_write
from model.build import build
from model.config import ModelConfig
from model.errors import ModelError
from model.hugging_face import (
    OURS,
    config_fingerprint,
    config_json,
    generation_config_json,
    read_config,
    tokenizer_config_json,
)
from model.language_model import LanguageModel

TOKENIZER, TOKENIZER_CONFIG, GENERATION_CONFIG = "tokenizer.json", "tokenizer_config.json", "generation_config.json"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODEL_FILES = (TOKENIZER, TOKENIZER_CONFIG, GENERATION_CONFIG, CONFIG, WEIGHTS)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # that weights may be stored in


class Loaded(NamedTuple):
    """A model and the tokenizer its ids are of."""

    model: LanguageModel
    tokenizer: Tokenizer


def save_folder(
    folder: str | os.PathLike[str],
    weights: Mapping[str, Tensor],
    config: ModelConfig,
    tok: Tokenizer,
    *,
    stage: str,
) -> None:
    """Write the model folder; a folder that is there already is overwritten file by file, each atomically.

    weights: a model's state_dict, in the dtype it is to be stored in; a tied tensor is in it once. stage: "pretrain" or
    "finetune". Raises FileError when the system refuses, ModelError when the tokenizer lacks this project's special
    tokens or is of another size than the config says.
    """
    folder = Path(folder)
    if config.vocab_size != tok.vocab_size:
        raise ModelError(
            f"the model has {config.vocab_size:,} tokens and its tokenizer {tok.vocab_size:,}; "
            "build the model with the tokenizer's vocab_size"
        )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    dtype = next(iter(tensors.values())).dtype
    described = {
        TOKENIZER_CONFIG: tokenizer_config_json(config),
        GENERATION_CONFIG: generation_config_json(tok),
        CONFIG: config_json(config, tok, stage=stage, dtype=dtype),
    }
    tok.save(folder / TOKENIZER)
    for name, value in described.items():
        with atomic_write(folder / name) as file:
            json.dump(value, file, indent=2)
            file.write("\n")
    belongs_to = {"format": "pt", "tokenizer": tok.fingerprint, "config": config_fingerprint(config, stage)}
    with atomic_write(folder / WEIGHTS, binary=True) as file:
        file.write(safetensors.torch.save(tensors, metadata=belongs_to))


def load_folder(
    folder: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Loaded:
    """The model of a folder, on `device` in `dtype` and set to evaluate, and its tokenizer.

    Folders that transformers wrote load too where the model is one of ours. Raises ModelError, BPEError or FileError
    naming the file that is missing, damaged, of another kind, or does not belong to the others.
    """
    folder = Path(folder)
    found = _read_json(folder / CONFIG)
    config = read_config(found, folder / CONFIG)
    if not (folder / TOKENIZER).exists():
        raise ModelError(f"{folder / TOKENIZER} is missing; put the tokenizer there that the model was trained with")
    tok = Tokenizer.load(folder / TOKENIZER)
    with torch.device("meta"), NothingDrawn():  # shapes alone: the values come from the file
        model = build(config)
    weights, metadata = _read_weights(folder / WEIGHTS, model.state_dict(), torch.device(device), dtype)
    _check_belonging(folder, found, config, tok, metadata)
    model.load_state_dict(weights, assign=True)
    return Loaded(model.eval(), tok)


def stage_of(folder: str | os.PathLike[str]) -> str | None:
    """The stage that wrote a model folder, "pretrain" or "finetune"; None where another program did.

    Raises ModelError as `load_folder` does.
    """
    return _our_part(_read_json(Path(folder) / CONFIG)).get("stage")


class NothingDrawn(TorchFunctionMode):
    """New weights stay without values: to draw them on the meta device, torch would import a library for algebra."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return kwargs["tensor"] if func is nn.init.normal_ else func(*args, **(kwargs or {}))


def _our_part(found: Mapping[str, Any]) -> dict[str, str]:
    """This project's own entries of a config.json; those that are not text count as absent."""
    ours = found.get(OURS)
    return {key: value for key, value in ours.items() if isinstance(value, str)} if isinstance(ours, dict) else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
    except OSError as error:
        raise ModelError(
            f"cannot read {path}: {error.strerror or error}; give the folder of a trained model, which has this file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({error}); copy it anew, or train the stage again") from error
    return found


def _read_weights(
    path: Path, expected: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, moved and converted one by one from its memory map, and its metadata."""
    if not path.exists():
        raise ModelError(f"{path} is missing{_instead_of(path)}")
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            if names != expected.keys():
                raise ModelError(f"{path} holds another model than {CONFIG} describes: {_difference(names, expected)}")
            weights = {}
            for name, like in expected.items():
                tensor = file.get_tensor(name)
                if tensor.shape != like.shape or tensor.dtype not in DTYPES:
                    raise ModelError(
                        f"{path} holds another model than {CONFIG} describes: {name} is {_in_words(tensor)}, "
                        f"{tuple(like.shape)} of floating point was expected; take both from one folder"
                    )
                weights[name] = tensor.to(device=device, dtype=dtype, copy=True)  # the map must not outlive the file
            return weights, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{path} is damaged or no safetensors file ({reason}); copy it anew, or train again"
        ) from error


def _check_belonging(
    folder: Path, found: Mapping[str, Any], config: ModelConfig, tok: Tokenizer, metadata: Mapping[str, str]
) -> None:
    """Refuse files that were not written together, as far as they say where they belong."""
    ours = _our_part(found)
    for name, fingerprint in ((WEIGHTS, metadata.get("tokenizer")), (CONFIG, ours.get("tokenizer"))):
        if fingerprint not in (None, tok.fingerprint):
            raise ModelError(
                f"{folder / name} belongs to tokenizer {fingerprint}, {folder / TOKENIZER} is {tok.fingerprint}: "
                "the same ids would mean other text; put the tokenizer back, or train the stage again"
            )
    if config.vocab_size != tok.vocab_size:
        raise ModelError(
            f"{folder / CONFIG} describes a model of {config.vocab_size:,} tokens, {folder / TOKENIZER} has "
            f"{tok.vocab_size:,}; put the tokenizer there that the model was trained with"
        )
    described = config_fingerprint(config, ours.get("stage", ""))
    if metadata.get("config", described) != described:
        raise ModelError(
            f"{folder / WEIGHTS} belongs to config {metadata['config']}, {folder / CONFIG} is {described}: "
            "the same weights would be another model; put the config back, or train the stage again"
        )


def _difference(names: set[str], expected: Mapping[str, Tensor]) -> str:
    missing, strange = sorted(expected.keys() - names), sorted(names - expected.keys())
    parts = [f"{len(missing)} tensors are missing, {missing[0]} the first"] if missing else []
    parts += [f"{len(strange)} are not expected, {strange[0]} the first"] if strange else []
    return f"{' and '.join(parts)}; take both from one folder"


def _in_words(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"


def _instead_of(path: Path) -> str:
    """What to do where there are no weights, by what lies there in their place."""
    if any(path.parent.glob("*.bin")):
        return "; pickled weights (.bin) are never loaded, since they can run code: convert them to safetensors"
    if any(path.parent.glob("*.safetensors")):
        return "; weights in several files are not read: join them with transformers' save_pretrained"
    return "; copy the folder whole, or train the stage again"
