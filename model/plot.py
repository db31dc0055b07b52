"""The curves of a training as a picture.

In: the entries of metrics.jsonl.  Out: loss.png: training loss and held-out bits per byte over optimizer steps.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bpe.files import atomic_write


def plot_losses(metrics: Sequence[dict[str, Any]], path: Path, *, title: str) -> bool:
    """Draw `metrics` into a PNG at `path`; return False where matplotlib, which is optional, is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.add_subplot()
    right = left.twinx()
    losses = [(entry["step"], entry["loss"]) for entry in metrics if "loss" in entry]
    held_out = [(entry["step"], entry["bits_per_byte"]) for entry in metrics if "bits_per_byte" in entry]
    curves = []
    if losses:
        curves += left.plot(
            *zip(*losses, strict=True), color="tab:blue", linewidth=0.8, label="training loss (nats per token)"
        )
    if held_out:
        curves += right.plot(
            *zip(*held_out, strict=True), color="tab:orange", marker="o", markersize=3, label="held-out bits per byte"
        )
    left.set(title=title, xlabel="optimizer steps", ylabel="nats per token")
    right.set(ylabel="bits per byte")
    left.legend(handles=curves, loc="upper right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    with atomic_write(path, binary=True) as file:
        file.write(picture.getvalue())
    return True
