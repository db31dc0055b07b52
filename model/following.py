"""What every process of a group does but the first, which prepares, prints and saves (model/parallel.py).

In: a Task from the first process, and the run's folder, which every machine sees.  Out: nothing but gradients.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from bpe import Tokenizer
from data.tokens import SPLITS, TokenFile, token_file_path
from model.beginning import batches_of, build_run, lessons_of
from model.checkpoint import load_checkpoint
from model.memory import fit
from model.parallel import Left, give_weights_of_first, of_first
from model.plan import Plan
from model.report import RESUME
from model.settings import Stage
from model.stopping import StopSignals
from model.train import Diverged, Run, Scores, train


@dataclass(frozen=True)
class Task:
    """A stage that the first process has prepared."""

    plan: Plan
    tokenizer: Tokenizer
    resumed: bool  # whether it goes on from a checkpoint


class SilentReport:
    """Passes on the wish to stop and nothing else; model.train.Report says what each method is told."""

    def __init__(self) -> None:
        self.signals = StopSignals()

    def wants_stop(self) -> bool:
        """Whether this process was told to stop; then all of them do."""
        return self.signals.came.is_set()

    def stepped(self, run: Run, loss: float, grad_norm: float, multiplier: float) -> None:
        """Say nothing."""

    def evaluated(self, run: Run, scores: Scores) -> None:
        """Say nothing."""

    def checkpoint(self, run: Run) -> None:
        """Save nothing."""


def follow(stage: Stage, folder: Path, device: torch.device) -> None:
    """Wait until the first process has prepared a stage in the run's folder, and train it with the others.

    Raises SystemExit for what the first process says, KeyboardInterrupt when the training was stopped.
    """
    with first_says_why():
        task: Task | None = of_first(None)
        if task is None:  # the stage is finished
            return
        files = {split: TokenFile.open(token_file_path(folder / "tokens", stage, split)) for split in SPLITS}
        batches, held_out = batches_of(files, task.tokenizer, task.plan)
        lessons = lessons_of(batches, held_out, task.plan)
        run = build_run(task.plan, device)
        if task.resumed:
            load_checkpoint(folder / stage / RESUME, run)
        fit(run, task.plan.settings.tokens_per_step)
        if task.plan.compiled:
            run.compile()
        give_weights_of_first(run.model)
        report = SilentReport()
        with report.signals.listening():
            done = train(run, lessons, held_out, task.plan.settings.config, task.plan.training_limit, report)
        if not done:
            raise KeyboardInterrupt


@contextmanager
def first_says_why() -> Iterator[None]:
    """End this process, without a word, for what ends the first one too."""
    try:
        yield
    except (Diverged, Left):
        raise SystemExit(2) from None
