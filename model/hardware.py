"""What this machine can compute with.

In: the names a user may give, or nothing.  Out: a torch device and the number format of its matrix products.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from bpe.freed_memory import give_back_freed_memory
from model.errors import ModelError

DEVICES = ("cuda", "mps", "cpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CONTAINER = Path("/sys/fs/cgroup")
# of CUDA and MPS, their libraries of products, the CPU, Windows
NO_ROOM = ("out of memory", "ALLOC_FAILED", "can't allocate memory", "not enough memory")


def pick_device(name: str | None = None) -> torch.device:
    """The device of that name, or the best one here: an NVIDIA or AMD GPU, Apple's, else the CPU.

    Raises ModelError for a name torch does not know or a device this machine lacks.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in DEVICES:
            raise RuntimeError(f"nothing here was tried on {device.type}")
        if name not in _present():  # torch knows; where it is, each of several processes will have its own
            torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises AssertionError when built without CUDA
        raise ModelError(
            f"no device {name!r} here; this machine has {', '.join(_present())}: pass --device {_present()[0]}"
        ) from error
    return device


def pick_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The format of matrix products: by name, or bfloat16 where the hardware has it, float16 on older GPUs, float32.

    In training, weights, gradients and sums stay float32 whatever is picked. Raises ModelError for an unknown name.
    """
    if name is not None:
        if name not in DTYPES:
            raise ModelError(f"no number format {name!r}; pass --dtype {', '.join(DTYPES)}")
        return DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if device.type == "cpu" and _cpu_multiplies_bfloat16():
        return torch.bfloat16
    return torch.float32


@contextlib.contextmanager
def matrix_products_in(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Run the block's matrix products in `dtype` (torch's autocast), the rest in float32."""
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        yield


def free_memory(device: torch.device) -> int | None:
    """Bytes that this program can have on the device beside its live tensors; None where the system does not say.

    What it has freed counts: torch keeps that of a GPU, and the C library that of the CPU, for the next tensors.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    if device.type == "cpu" and (table := Path("/proc/meminfo")).exists():  # Linux; in steps of 1024 bytes
        give_back_freed_memory()
        available = re.search(r"^MemAvailable: +(\d+) kB$", table.read_text(encoding="utf-8"), re.MULTILINE)
        return _allowed(1024 * int(available[1])) if available else None
    return None


def _allowed(free: int) -> int:
    """Of so many free bytes those that a container, if this is one, may have (version 2 of Linux's control groups).

    Parts of files that the system keeps in memory count as used there, though it lets go of them first.
    """
    try:
        most, used, told = (
            (CONTAINER / name).read_text(encoding="utf-8") for name in ("memory.max", "memory.current", "memory.stat")
        )
        files = re.search(r"^inactive_file (\d+)$", told, re.MULTILINE)
        return min(free, max(0, int(most) - int(used) + (int(files[1]) if files else 0)))
    except (OSError, ValueError):  # it is none, or has no limit: "max"
        return free


def is_want_of_memory(error: Exception) -> bool:
    """Whether that is what Python, or torch on any device, raises where there is no room."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in NO_ROOM)


@contextlib.contextmanager
def naming_want_of_memory(device: torch.device, remedy: str) -> Iterator[None]:
    """Make a ModelError of what is raised in the block when the device has no room. remedy: what the user may do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_want_of_memory(error):
            raise
        raise ModelError(f"{device} has no memory for this; {remedy}") from error


def dtype_name(dtype: torch.dtype) -> str:
    """`torch.bfloat16` -> `bfloat16`."""
    return str(dtype).removeprefix("torch.")


def _cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has bfloat16 instructions (AVX512-BF16 or AMX); without them it is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _present() -> list[str]:
    names = ["cpu"]
    if torch.cuda.is_available():
        names.insert(0, "cuda")
    if torch.backends.mps.is_available():
        names.insert(0, "mps")
    return names
