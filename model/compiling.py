"""Training steps as machine code made for the model at hand, by torch.compile.

In: a model.  Out: the same model, whose blocks and loss run compiled in a training step; and whether that pays.

Most of a small model's time goes into what stands between its matrix products: norms, rotations, activations, changes
of number format, each a pass over memory of its own. Compiled, each stretch between two products is one pass. All
blocks share one compilation, which takes some twenty seconds on two CPU cores, so that short trainings do without.
The blocks as they are written are the definition; the tests hold what is compiled to them.
"""

import contextlib
import math
import warnings
from collections.abc import Iterator
from functools import cache

import torch
from torch import nn

from model.config import ModelConfig
from model.language_model import LanguageModel
from model.settings import Limit
from model.tensors import HeadLoss, head_loss

COMPILING_SECONDS = 20.0  # about
COMPILED_FROM = 120.0  # seconds of training from which on it pays to compile first
LEAST_RATE = {"cpu": 1e11, "mps": 1e12, "cuda": 1e13}  # operations per second that a device reaches in training
# of the time that a step takes as it is written, compiling saves about so much, and of models that are wider than the
# first so much less with each doubling (LOG.md); the preset that is chosen is measured
COMPILING_SAVES, NARROW, LESS_BY_WIDTH = 0.37, 256, 0.15


@cache
def can_compile(device: torch.device) -> bool:
    """Whether torch.compile works here, found by trying: it needs a C++ compiler for the CPU, Triton for a GPU."""
    if device.type == "mps":
        return False  # torch calls it a prototype
    return (device.type == "cpu" and _compiles(device, trusting=True)) or _compiles(device, trusting=False)


def _compiles(device: torch.device, *, trusting: bool) -> bool:
    """Whether a function can be compiled.

    trusting: that the C++ compiler knows the processor's vectors; to let torch try each kind first takes seconds.
    """
    try:
        from torch._inductor import config, cpu_vec_isa  # a second's work

        config.cpp.vec_isa_ok = trusting or None
        kinds = cpu_vec_isa.supported_vec_isa_list
        for found in (cpu_vec_isa.valid_vec_isa_list, *(type(kind).__bool__ for kind in kinds)):
            if hasattr(found, "cache_clear"):  # what the first try found is not to be believed in the second
                found.cache_clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.compile(torch.nn.functional.silu)(torch.ones(64, device=device))  # 64: whole vectors
    except Exception:  # whatever a missing compiler, header or driver raises; the code as it is written remains
        return False
    return True


def pays_to_compile(shape: ModelConfig, limit: Limit, batch_tokens: int, device: torch.device) -> bool:
    """Whether a training takes so long that compiling its steps pays, and the machine can."""
    if limit.steps is not None:
        seconds = limit.steps * batch_tokens * shape.operations_per_token / LEAST_RATE[device.type]
    else:
        seconds = limit.seconds or math.inf
    return seconds >= COMPILED_FROM and can_compile(device)


def compiled_gain(shape: ModelConfig) -> float:
    """How many times as fast a model of this shape is trained in compiled code as it is written, about."""
    doublings = max(0.0, math.log2(shape.width / NARROW))
    return 1 / (1 - max(0.0, COMPILING_SAVES - LESS_BY_WIDTH * doublings))


def compile_blocks(model: LanguageModel) -> None:
    """Let the model's blocks, its numbered layers, run compiled from now on; `as_written` makes exceptions."""
    for layers in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
        for block in layers:
            block.compile()


def compiled_head_loss() -> HeadLoss:
    """`head_loss`, compiled."""
    compiled: HeadLoss = torch.compile(head_loss)
    return compiled


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """Within, nothing runs compiled: it would be compiled anew for each length that is met only once."""
    with torch.compiler.set_stance("force_eager"):
        yield
