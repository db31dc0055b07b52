"""Training steps as machine code made for the model at hand, by torch.compile.

In: a model.  Out: the same model, whose blocks and loss run compiled in a training step.

Most of a small model's time goes into what stands between its matrix products: norms, rotations, activations, changes
of number format, each a pass over memory of its own. Compiled, each stretch between two products is one pass. All
blocks share one compilation, which takes some twenty seconds on two CPU cores, so that short trainings do without.
The blocks as they are written are the definition; the tests hold what is compiled to them.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.language_model import LanguageModel

HeadLoss = Callable[[LanguageModel, Tensor, Tensor], Tensor]


def head_loss(model: LanguageModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """The summed cross-entropy of some positions in nats, a float32 scalar.

    hidden: (positions, width), from `model.hidden`; targets: int64, (positions,), the token that follows each.
    """
    return F.cross_entropy(model.logits(hidden), targets, reduction="sum")


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
