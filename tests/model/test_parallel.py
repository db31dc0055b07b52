"""Laws of a group of processes, told of in one: shares add up to the step, and a group that breaks is one line."""

from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from data.batches import Batch
from model import parallel
from model.build import build
from model.config import ModelConfig
from model.errors import ModelError
from model.optimizer import Optimizer
from model.parallel import Left, any_of, give_weights_of_first, of_first, own_device, share_of, sum_gradients, sum_of
from model.settings import STAGES
from model.train import Run, accumulate_gradients, take_step

SHAPE = ModelConfig(vocab_size=50, context=8, width=16, layers=1, heads=2, kv_heads=1, hidden=24, head_size=8)


def as_process(rank: int, processes: int) -> "patch[None]":  # type: ignore[type-arg]
    return patch.multiple(parallel, rank=lambda: rank, world_size=lambda: processes)


def random_step(seed: int, rows: int, segments: bool) -> Batch:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, SHAPE.vocab_size, (rows, SHAPE.context + 1))
    scored = rng.random((rows, SHAPE.context)) < rng.random((rows, 1))  # rows differ in how much of them counts
    scored[0, 0] = True
    parts = np.sort(rng.integers(0, 2, (rows, SHAPE.context)), axis=1).astype(np.int32) if segments else None
    return Batch(ids[:, :-1], ids[:, 1:], scored, np.tile(np.arange(SHAPE.context), (rows, 1)), parts)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 7), processes=st.integers(1, 4), segments=st.booleans())
def test_the_gradients_of_all_shares_add_up_to_the_gradient_of_the_step(
    seed: int, rows: int, processes: int, segments: bool
) -> None:
    step = random_step(seed, rows, segments)
    scored = int(step.scored.sum())
    torch.manual_seed(seed)
    model = build(SHAPE)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    run = Run(model, Optimizer(model, STAGES["pretrain"]), torch.float32, torch.device("cpu"))
    loss = accumulate_gradients(run, step, scored)
    whole = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    run.optimizer.forget_gradients()
    total = 0.0
    for rank in range(processes):
        with as_process(rank, processes):
            total += accumulate_gradients(run, share_of(step), scored)
    assert total == pytest.approx(loss, rel=1e-5)
    for parameter, expected in zip(model.parameters(), whole, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


def test_a_process_without_a_row_takes_the_step_in_float16_too() -> None:
    model = build(SHAPE)
    run = Run(model, Optimizer(model, STAGES["pretrain"]), torch.float16, torch.device("cpu"))
    step = random_step(0, rows=1, segments=False)
    with as_process(1, 2):
        assert accumulate_gradients(run, share_of(step), int(step.scored.sum())) == 0.0
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)  # as if the others had some
    before = model.state_dict()["model.norm.weight"].clone()
    take_step(run, STAGES["pretrain"], 1.0, 0.0)
    assert not torch.equal(model.state_dict()["model.norm.weight"], before)


def test_a_process_on_its_own_gets_back_what_it_gives() -> None:
    model = nn.Linear(2, 2)
    sum_gradients(model)
    give_weights_of_first(model)
    assert model.weight.grad is None
    assert (sum_of(2.5), any_of(True), any_of(False), of_first("text")) == (2.5, True, False, "text")
    for device in map(torch.device, ("cpu", "cuda", "mps")):
        assert own_device(device) == device


BROKEN = "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:35139"


@pytest.fixture
def broken_group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two processes, the other of which has ended."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(BROKEN)

    for name in ("all_reduce", "broadcast", "broadcast_object_list"):
        monkeypatch.setattr(dist, name, fail)
    with as_process(0, 2):
        yield


@pytest.mark.usefixtures("broken_group")
def test_a_group_that_lost_a_process_is_one_line() -> None:
    model = nn.Linear(2, 2)
    for work in (
        lambda: sum_gradients(model),
        lambda: give_weights_of_first(model),
        lambda: sum_of(1.0),
        lambda: any_of(False),
        lambda: of_first(1),
    ):
        with pytest.raises(Left, match=r"^another process of this training ended \(.*\); .*the same command, ") as left:
            work()
        assert BROKEN in str(left.value)


def test_want_of_memory_in_a_group_is_no_lost_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(dist, "all_reduce", fail)
    with as_process(0, 2), pytest.raises(torch.OutOfMemoryError):
        sum_of(1.0)


@pytest.mark.parametrize(("cuda", "nccl"), [(True, True), (True, False), (False, True)])
def test_a_group_can_speak_by_the_cpu_and_by_gpus_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, nccl: bool
) -> None:
    """What torch does on its own account is one of the two, by how it was built."""
    asked: list[str | None] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: nccl)
    monkeypatch.setattr(dist, "init_process_group", lambda backend=None, **_: asked.append(backend))
    for name, value in {"WORLD_SIZE": 2, "RANK": 0, "LOCAL_RANK": 0, "MASTER_ADDR": "here", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    parallel.join()
    devices = dist.distributed_c10d.BackendConfig(dist.Backend(asked[0])).get_device_backend_map()
    assert devices["cpu"] == "gloo"
    assert devices.get("cuda") == ("nccl" if cuda and nccl else "gloo")


@pytest.mark.parametrize(("kind", "gpus"), [("cuda", 1), ("mps", 0)])
def test_a_process_without_a_device_of_its_own_says_so(monkeypatch: pytest.MonkeyPatch, kind: str, gpus: int) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with as_process(1, 2), pytest.raises(ModelError, match=f"process 1 finds no device .* has {gpus} GPUs"):
        own_device(torch.device(kind))
    with as_process(1, 2):
        assert own_device(torch.device("cpu")) == torch.device("cpu")


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    with as_process(3, 4):
        assert own_device(torch.device("cuda")) == torch.device("cuda", 1)
    assert chosen == [1]


def test_several_processes_that_torchrun_did_not_start_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelError, match=r"^WORLD_SIZE is 2, but RANK, .* not set: start .* with torchrun, or unset"):
        parallel.join()
