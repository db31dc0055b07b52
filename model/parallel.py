"""Several processes that train one model together, each on its share of every step's rows.

In: what torchrun tells each process that it starts.  Out: a group of them; sums and agreement over it. A process on its
own is a group of one: every function here then gives back what it was given.

    torchrun --nproc-per-node 2 -- LLM-BPE.py --stage pretrain ...     without the -- torchrun takes --run for its own

Every process holds the whole model and gets the sum of all gradients, so all take the same step and their weights stay
equal. That is what torch's DistributedDataParallel does; it sums the gradient of a weight as soon as it is there, so it
must come in one piece, where here it comes from many micro-batches and, for the embedding, many chunks of the loss.
The first process (rank 0) prepares, prints and saves; all of them read the run's folder, so other machines must see it.
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from textwrap import shorten
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from data.batches import Batch
from model.errors import ModelError
from model.hardware import is_want_of_memory

PATIENCE = timedelta(
    days=7
)  # others wait while the first downloads and encodes; a process that ends is noticed at once

MOST_TOLD = 200  # characters of what torch says of it

Value = TypeVar("Value")


class Left(ModelError):
    """Another process of the group has ended, or cannot be reached."""

    def __init__(self, cause: Exception) -> None:
        told = shorten(str(cause), MOST_TOLD, placeholder=" ...")
        super().__init__(
            f"another process of this training ended ({told}); what it said, if anything, stands above: "
            "the same command, without --restart, goes on from the last save"
        )


def join() -> None:
    """Wait for the other processes that torchrun started; from then on they are a group.

    Raises ModelError where something else, such as a scheduler of a cluster, says that there are several.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if missing := [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
            raise ModelError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} not set: start several processes "
                "with torchrun, or unset WORLD_SIZE for one"
            )
        # Named, since torch would set up one of the two alone: values go by the CPU, gradients by the GPU.
        backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        with _others_needed():
            dist.init_process_group(backends, timeout=PATIENCE)


@contextlib.contextmanager
def group() -> Iterator[None]:
    """Be in the group within the block."""
    join()
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def world_size() -> int:
    """Processes in the group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number in the group, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def own_device(device: torch.device) -> torch.device:
    """The device of this process, of that kind: of several GPUs in a machine each process has one.

    Raises ModelError where there are not enough, or the kind of device cannot be shared by a group.
    """
    if world_size() == 1 or device.type == "cpu":
        return device
    number, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if device.type != "cuda" or number >= gpus:
        raise ModelError(
            f"process {number} finds no device of its own: this machine has {gpus} GPUs that can work together; "
            "start no more processes than that, or pass --device cpu"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def share_of(step: Batch) -> Batch:
    """This process's rows of a step's batch; no row where there are more processes than rows."""
    mine = slice(rank(), None, world_size())
    segments = None if step.segments is None else step.segments[mine]
    return Batch(step.inputs[mine], step.targets[mine], step.scored[mine], step.positions[mine], segments)


def sum_gradients(model: nn.Module) -> None:
    """Add up the gradients of all processes; a process without any counts as zero."""
    if world_size() == 1:
        return
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    with _others_needed():
        sums = [dist.all_reduce(parameter.grad, async_op=True) for parameter in model.parameters()]
        for under_way in sums:
            under_way.wait()


def sum_of(value: float) -> float:
    """The sum of what the processes give."""
    return _reduced(value, dist.ReduceOp.SUM)


def any_of(value: bool) -> bool:
    """Whether it is true in any process."""
    return _reduced(float(value), dist.ReduceOp.MAX) > 0


def of_first(value: Value) -> Value:
    """What the first process gives: a value that can be pickled."""
    if world_size() == 1:
        return value
    values = [value]
    with _others_needed():
        dist.broadcast_object_list(values, device=torch.device("cpu"))
    return values[0]


def give_weights_of_first(model: nn.Module) -> None:
    """Let every process have the first one's weights."""
    if world_size() > 1:
        with _others_needed():
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, 0)


def _reduced(value: float, how: dist.ReduceOp.RedOpType) -> float:
    if world_size() == 1:
        return value
    holder = torch.tensor(value, dtype=torch.float64)
    with _others_needed():
        dist.all_reduce(holder, how)
    return holder.item()


@contextlib.contextmanager
def _others_needed() -> Iterator[None]:
    """Raise Left for the errors of a group that has lost a process; want of memory is raised as it is."""
    try:
        yield
    except RuntimeError as error:  # gloo's are plain ones, nccl's a kind of them
        if is_want_of_memory(error):
            raise
        raise Left(error) from error
