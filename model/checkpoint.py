"""A training that survives being killed: everything it is made of, in one file.

In: a run.  Out: resume.pt, from which the same run goes on with the same bits (on the CPU; GPUs add in varying order).
The file is whole in itself: latest, averaged and best weights, optimizer, position; chance follows from seed and step.
It is written atomically and read with weights_only=True, so nothing in it is ever executed.
"""

import time
from pathlib import Path
from typing import Any

import torch

from bpe.files import atomic_write
from model.errors import ModelError
from model.train import Best, Run

FORMAT = 2


def save_checkpoint(path: Path, run: Run) -> None:
    """Write the run to `path`. Raises FileError when it cannot be written; the earlier file is then still there."""
    state: dict[str, Any] = {
        "format": FORMAT,
        "step": run.step,
        "evaluated": run.evaluated,
        "plateau": run.plateau,
        "stale": run.stale,
        "seconds": run.seconds,
        "micro_tokens": run.micro_tokens,
        "model": run.model.state_dict(),
        "average": run.average.weights,
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "best": None if run.best is None else (run.best.step, run.best.bits_per_byte, run.best.weights),
    }
    with atomic_write(path, binary=True) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(
                error.__context__, OSError
            ):  # what the system said; torch hides it behind an error of its own
                raise error.__context__ from None
            raise


def load_checkpoint(path: Path, run: Run) -> None:
    """Put the state of `path` into a freshly built run of the same settings.

    Raises ModelError for a file that is damaged, of another program, or of a model of another shape.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ValueError(f"not a checkpoint of format {FORMAT}")
        run.model.load_state_dict(state["model"])
        run.average.load_state_dict(state["average"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.scaler.load_state_dict(state["scaler"])
        run.best = None if state["best"] is None else Best(*state["best"])
        run.step, run.evaluated = state["step"], state["evaluated"]
        run.plateau, run.stale, run.micro_tokens = state["plateau"], state["stale"], state["micro_tokens"]
        run.earlier_seconds, run.started = state["seconds"], time.monotonic()
    except Exception as error:  # torch and pickle raise many kinds for damaged files; all mean the same to the user
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{path} cannot be used to go on ({reason[:120]}); pass --restart to train this stage anew"
        ) from error
