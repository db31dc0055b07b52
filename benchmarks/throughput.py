"""How fast the presets train on this machine, beside what the machine can do.

    python -m benchmarks.throughput [--presets nano micro small] [--json]

In: names of presets.  Out: for each, training tokens per second (median of interleaved rounds), and the share of the
matrix-product rate measured in the same round that its arithmetic needs: 6 operations for each parameter and token, and
12 x layers x width x context for attention.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from bpe.command import CommandParser, run_command, show
from model.config import PRESETS, ModelConfig, preset
from model.hardware import dtype_name, pick_device, pick_dtype
from model.plan import tokens_per_second
from model.settings import STAGES

ROUNDS = 3
MATRIX = 2048  # rows and columns of the product whose rate is the ceiling
SECONDS = 1.0  # spent on it in each round


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One preset's speed."""

    preset: str
    parameters: int
    tokens_per_second: float
    share_of_matrix_rate: float
    dtype: str


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a square matrix product, multiplications and additions counted apart."""
    left, right = (torch.randn(MATRIX, MATRIX, device=device, dtype=dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        float((left @ right)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * MATRIX**3 / best


def operations_per_token(shape: ModelConfig) -> float:
    """Of a training step, forward and backward. Kaplan et al. 2020, arXiv:2001.08361, section 2.1."""
    return 6 * shape.num_parameters + 12 * shape.layers * shape.heads * shape.head_size * shape.context


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.throughput",
        "Training speed of the presets, and the share of the machine's matrix-product rate it is.",
        "  python -m benchmarks.throughput --presets micro small\n",
    )
    parser.add_argument(
        "--presets", nargs="+", default=["nano", "micro", "small"], metavar="NAME", help="what to measure"
    )
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    return parser


def measure(names: Sequence[str]) -> list[Figures]:
    """The figures of the presets, in their order. Raises ConfigError for an unknown one."""
    shapes = {name: preset(name) for name in names}
    device = pick_device()
    dtype = pick_dtype(None, device)
    speeds: dict[str, list[float]] = {name: [] for name in names}
    shares: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        rate = matrix_rate(device, dtype)
        for name, shape in shapes.items():
            speed = tokens_per_second(shape, STAGES["pretrain"], device, dtype)
            speeds[name].append(speed)
            shares[name].append(speed * operations_per_token(shape) / rate)
    return [
        Figures(
            preset=name,
            parameters=PRESETS[name].num_parameters,
            tokens_per_second=round(statistics.median(speeds[name]), 1),
            share_of_matrix_rate=round(statistics.median(shares[name]), 3),
            dtype=dtype_name(dtype),
        )
        for name in names
    ]


def run(args: argparse.Namespace) -> None:
    """Measure and print. Raises a UserError for what the user can put right."""
    figures = measure(args.presets)
    if args.json:
        show(json.dumps([asdict(one) for one in figures]) + "\n")
        return
    for one in figures:
        show(
            f"{one.preset:9} {one.parameters:>12,} parameters  {one.tokens_per_second:>9,.0f} tokens/s  "
            f"{one.share_of_matrix_rate:4.0%} of the {one.dtype} matrix-product rate\n"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.throughput", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
