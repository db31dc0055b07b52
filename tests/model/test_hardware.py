"""Laws of the choice of device and number format, on machines that are made up."""

import os
import sys
from pathlib import Path

import pytest
import torch

from model import hardware
from model.errors import ModelError
from model.hardware import (
    DTYPES,
    dtype_name,
    free_memory,
    matrix_products_in,
    naming_want_of_memory,
    pick_device,
    pick_dtype,
)

CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda", "mps"))


def machine(patch: pytest.MonkeyPatch, *, cuda: bool = False, mps: bool = False) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: cuda)
    patch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_the_best_device_there_is_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, expected in (({"cuda": True}, CUDA), ({"mps": True}, MPS), ({}, CPU)):
        machine(monkeypatch, **has)
        assert pick_device() == expected
    assert pick_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_kind_of_device_that_is_here_is_not_tried_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of several processes would take memory of the first GPU for that."""

    def tried(*_: object, **__: object) -> None:
        raise AssertionError

    machine(monkeypatch, cuda=True, mps=True)
    monkeypatch.setattr(torch, "empty", tried)
    assert pick_device(name) == torch.device(name)
    with pytest.raises(ModelError, match="no device 'cuda:9' here"):
        pick_device("cuda:9")


@pytest.mark.parametrize("name", ["abacus", "meta", "cuda:99", ""])
def test_a_device_that_is_not_here_is_one_line_that_names_those_that_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, mps=True)
    with pytest.raises(ModelError, match=rf"^no device '{name}' here; this machine has mps, cpu: pass --device mps$"):
        pick_device(name)


@pytest.mark.parametrize(
    ("device", "capability", "bfloat16", "expected"),
    [
        (CUDA, (8, 0), False, torch.bfloat16),
        (CUDA, (9, 0), False, torch.bfloat16),
        (CUDA, (7, 5), True, torch.float16),  # a T4
        (MPS, None, True, torch.float32),
        (CPU, None, True, torch.bfloat16),
        (CPU, None, False, torch.float32),
    ],
)
def test_the_number_format_is_the_fastest_sound_one_of_the_hardware(
    device: torch.device,
    capability: tuple[int, int] | None,
    bfloat16: bool,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr("model.hardware._cpu_multiplies_bfloat16", lambda: bfloat16)
    assert pick_dtype(None, device) == expected
    assert [pick_dtype(name, device) for name in DTYPES] == list(DTYPES.values())


def test_an_unknown_number_format_is_refused_naming_those_there_are() -> None:
    with pytest.raises(ModelError, match=r"^no number format 'float7'; pass --dtype float32, bfloat16, float16$"):
        pick_dtype("float7", CPU)


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_only_matrix_products_are_in_the_format_picked(dtype: torch.dtype) -> None:
    left = torch.randn(4, 4)
    with matrix_products_in(dtype, CPU):
        assert (left @ left).dtype == dtype
        assert (left + left).dtype == torch.float32
    assert dtype_name(dtype) in DTYPES


def test_want_of_memory_is_one_line_and_other_faults_stay_what_they_are() -> None:
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory")):
        with pytest.raises(ModelError, match=r"^cpu has no memory .*; do less$"), naming_want_of_memory(CPU, "do less"):
            raise error
    with pytest.raises(RuntimeError, match=r"^shapes$"), naming_want_of_memory(CPU, "do less"):
        raise RuntimeError("shapes")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say what is free")
def test_what_is_free_is_less_than_all_there_is() -> None:
    free = free_memory(CPU)
    assert free is not None
    assert 10**6 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_what_is_free_in_a_container_is_what_is_left_of_its_own_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "CONTAINER", tmp_path)
    assert hardware._allowed(60_000) == 60_000  # nothing there says that it is one
    (tmp_path / "memory.max").write_text("100000\n")
    (tmp_path / "memory.current").write_text("70000\n")
    (tmp_path / "memory.stat").write_text("anon 50000\nfile 20000\ninactive_file 15000\nactive_file 5000\n")
    assert [hardware._allowed(free) for free in (60_000, 10_000)] == [45_000, 10_000]
    assert free_memory(CPU) in (45_000, None)  # None: a system that does not say what is free
    (tmp_path / "memory.max").write_text("60000\n")  # lowered since
    (tmp_path / "memory.stat").write_text("anon 70000\n")
    assert hardware._allowed(60_000) == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert hardware._allowed(60_000) == 60_000
