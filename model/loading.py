"""A trained model from its folder, ready to write.

In: a run's folder or a stage's.  Out: the model, on a device, in a number format, and its tokenizer.
"""

import os
import stat
from functools import partial
from pathlib import Path

import torch

from bpe import Tokenizer
from model import products
from model.errors import ModelError
from model.folder import CONFIG, TOKENIZER, WEIGHTS, load_folder, stage_of
from model.fused import FusedTransformer
from model.hardware import pick_device, pick_dtype
from model.language_model import LanguageModel
from model.products import FastestTied, fastest
from model.quantize import quantize as quantized
from model.run import RunFolder
from model.settings import STAGES, Stage
from model.transformer import Transformer

LATEST_FIRST: tuple[Stage, ...] = ("finetune", "pretrain")


def load(
    folder: str | os.PathLike[str],
    device: str | None = None,
    dtype: str | None = None,
    quantize: str | None = None,
) -> tuple[LanguageModel, Tokenizer]:
    """The model of a stage's folder, or of a run's (its finetune stage, else pretrain), with its tokenizer, to write.

    device: by default the best one here. dtype: "float32", "bfloat16" or "float16", of the weights; by default what
    this machine writes fastest with, on CPUs float16: half as much to read as float32, and 11 digits of a weight's 24.
    quantize: "int8" or "int4" (model/quantize.py).
    On the CPU a Transformer comes laid out for writing (model/fused.py): it says the same, and cannot be trained.
    Files that are not those the run recorded are refused. Raises a UserError that names what is wrong.
    """
    model, tok = load_stage(folder, device, dtype)
    if quantize is not None:
        return quantized(model, quantize), tok
    if isinstance(model, Transformer) and model.device.type == "cpu":
        weights = torch.float16 if dtype is None and products.HAS_LOOPS else None
        linear, tied = partial(fastest, dtype=weights), partial(FastestTied, dtype=weights)
        return FusedTransformer(model, linear, tied), tok
    return model, tok


def load_stage(
    folder: str | os.PathLike[str], device: str | None = None, dtype: str | None = None
) -> tuple[LanguageModel, Tokenizer]:
    """The same as the definition has it (model/transformer.py), on the CPU in float32 by default."""
    stage_folder = find_stage(folder)
    where = pick_device(device)
    number_format = pick_dtype("float32" if dtype is None and where.type == "cpu" else dtype, where)
    RunFolder(stage_folder.parent).verify(*(stage_folder / name for name in (CONFIG, TOKENIZER, WEIGHTS)))
    model, tok = load_folder(stage_folder, where, number_format)
    stage = stage_of(stage_folder)
    model.stage = stage if stage in STAGES else None
    return model, tok


def find_stage(folder: str | os.PathLike[str]) -> Path:
    """The stage's folder that `load` would take. Raises ModelError when there is none."""
    folder = Path(folder)
    for candidate in (folder, *(folder / stage for stage in LATEST_FIRST)):
        if _saved_at(candidate) is not None:
            return candidate
    kind: int | None
    try:
        kind = stat.S_IFMT(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        kind = None
    except (OSError, ValueError) as error:  # it may not be looked for, or nothing can have such a name
        raise ModelError(f"cannot look for a run in {folder}: {error}; pass --run with the folder of one") from error
    if kind not in (None, stat.S_IFDIR):
        raise ModelError(f"{folder} is a file; pass --run with the folder of a trained run")
    if kind is None:
        raise ModelError(
            f"there is no folder {folder}; pass --run with a trained run, or type `make story` to train one"
        )
    if (folder / CONFIG).exists():
        return folder  # a model's folder without weights: loading it says what is missing
    raise ModelError(
        f"{folder} has no trained stage yet; wait for its first save, "
        f"or type python LLM-BPE.py --stage pretrain --run {folder}"
    )


def default_run(runs: str | os.PathLike[str] = "runs") -> Path:
    """Below `runs`, the run named `story` if it has a trained stage, else the one that was saved last.

    Raises ModelError when no run has one.
    """
    saved: dict[Path, float] = {}
    for stage in reversed(LATEST_FIRST):  # a run counts by the stage that `load` would take
        for stage_folder in Path(runs).glob(f"*/{stage}"):
            if (at := _saved_at(stage_folder)) is not None:
                saved[stage_folder.parent] = at
    if not saved:
        raise ModelError(
            f"there is no trained model below {Path(runs)}; type `make story` to train a small one in minutes, "
            "or pass --run with a run's folder"
        )
    return max(saved, key=lambda run: (run.name == "story", saved[run], run.name))


def _saved_at(stage_folder: Path) -> float | None:
    """When the stage's weights were written, in seconds since the epoch; None where there are none to be read."""
    try:
        return (stage_folder / WEIGHTS).stat().st_mtime
    except (OSError, ValueError):
        return None
