"""How fast the presets train on this machine, beside what the machine can do, and how much memory that takes.

    python -m benchmarks.throughput [--presets small story] [--json]

In: names of presets.  Out: for each, medians of interleaved rounds, every measurement in a process of its own:

    tokens per second   of real training steps on random tokens, as the planner of --minutes measures them
    share               of the matrix-product rate measured in the same process that their arithmetic needs: 6
                        operations for each parameter and token, and 12 x layers x width of all heads x context
    peak memory         resident, Python and torch included, on the CPU; on a GPU what torch has given out there
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from bpe.command import CommandParser, run_command, show
from bpe.progress import progress_bar
from model.compiling import can_compile
from model.config import preset
from model.hardware import dtype_name, pick_device, pick_dtype
from model.plan import GPU_BATCH_TOKENS
from model.settings import STAGES
from model.speed import tokens_per_second

ROUNDS = 3
MATRICES = (1024, 2048, 4096)  # rows and columns of the products; the best rate of them is the ceiling
SECONDS = 0.7  # spent on each size in each measurement


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One preset's speed."""

    preset: str
    parameters: int
    tokens_per_second: float
    share_of_matrix_rate: float
    matrix_gflops: float  # that rate, in 10^9 operations per second
    peak_memory_mb: float  # 10^6 bytes; 0 where the system does not say
    dtype: str


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of the best square matrix product, multiplications and additions counted apart."""
    return max(rate_of_size(size, device, dtype) for size in MATRICES)


def rate_of_size(size: int, device: torch.device, dtype: torch.dtype) -> float:
    """Of the fastest of the products of that size that SECONDS have room for."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        float((left @ right)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def peak_memory(device: torch.device) -> int:
    """The most bytes in use at one moment so far: given out by torch on a GPU, resident on Linux, elsewhere 0."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0]) if status.exists() else 0


def measure(name: str) -> Figures:
    """One measurement of a preset; peak memory is that of the whole process so far."""
    device = pick_device()
    dtype = pick_dtype(None, device)
    shape, config = preset(name), STAGES["pretrain"]
    if device.type != "cpu":
        config = replace(config, batch_tokens=GPU_BATCH_TOKENS)
    speed = tokens_per_second(shape, config, device, dtype, can_compile(device))
    peak = peak_memory(device)  # before the matrices
    rate = matrix_rate(device, dtype)
    return Figures(
        preset=name,
        parameters=shape.num_parameters,
        tokens_per_second=speed,
        share_of_matrix_rate=speed * shape.operations_per_token / rate,
        matrix_gflops=rate / 1e9,
        peak_memory_mb=peak / 1e6,
        dtype=dtype_name(dtype),
    )


def median_of(rounds: Sequence[Figures]) -> Figures:
    """Of several measurements of one preset, figure by figure."""

    def median(figure: str, digits: int) -> float:
        return round(float(statistics.median(getattr(one, figure) for one in rounds)), digits)

    return replace(
        rounds[0],
        tokens_per_second=median("tokens_per_second", 1),
        share_of_matrix_rate=median("share_of_matrix_rate", 3),
        matrix_gflops=median("matrix_gflops", 0),
        peak_memory_mb=median("peak_memory_mb", 0),
    )


def measure_all(names: Sequence[str]) -> list[Figures]:
    """The figures of the presets, in their order. Raises ConfigError for an unknown one."""
    for name in names:
        preset(name)  # an unknown one is named before anything is measured
    measured: dict[str, list[Figures]] = {name: [] for name in names}
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh_process,
        progress_bar(total=ROUNDS * len(measured), description="measuring", unit="run") as bar,
    ):
        for _ in range(ROUNDS):
            for name, rounds in measured.items():
                rounds.append(fresh_process.submit(measure, name).result())
                bar.update()
    return [median_of(rounds) for rounds in measured.values()]


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.throughput",
        "Training speed of the presets, the share of the machine's matrix-product rate it is, and peak memory.",
        "  python -m benchmarks.throughput --presets micro small\n",
    )
    parser.add_argument("--presets", nargs="+", default=["small", "story"], metavar="NAME", help="what to measure")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print. Raises a UserError for what the user can put right."""
    figures = measure_all(args.presets)
    if args.json:
        show(json.dumps([asdict(one) for one in figures]) + "\n")
        return
    for one in figures:
        show(
            f"{one.preset:9} {one.parameters:>12,} parameters  {one.tokens_per_second:>9,.0f} tokens/s  "
            f"{one.share_of_matrix_rate:4.0%} of {one.matrix_gflops:,.0f} GFLOP/s ({one.dtype} matrix products)  "
            f"{one.peak_memory_mb:>7,.0f} MB\n"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.throughput", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
