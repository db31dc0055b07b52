"""What a person sees of a training, and what it leaves on disk.

In: a run, step by step.  Out: one progress bar on a terminal (a line for each evaluation elsewhere), metrics.jsonl,
samples.txt, loss.png, the best weights as a model folder, and resume.pt.
"""

import contextlib
import json
import math
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bpe import Tokenizer
from bpe.errors import FileError
from bpe.files import atomic_write
from bpe.progress import progress_bar
from model.checkpoint import save_checkpoint
from model.folder import MODEL_FILES, save_folder
from model.plan import Plan
from model.plot import plot_losses
from model.run import RunFolder
from model.settings import Stage
from model.stopping import StopSignals
from model.story import generate
from model.train import Run, Scores

SAMPLE_PROMPT = "A man in a sinking ship"
SAMPLE_TOKENS = 80
SPEED_WINDOW = 50  # steps over which tokens per second and loss are averaged
LOG_EVERY = 10  # steps between the training losses in metrics.jsonl
RESUME, METRICS, SAMPLES, PLOT = "resume.pt", "metrics.jsonl", "samples.txt", "loss.png"
BAR = "{percentage:3.0f}% {bar:24} {desc}"


class TrainingReport:
    """Watches one stage of one run; model.train.Report says what each method is told."""

    def __init__(self, folder: RunFolder, stage: Stage, tokenizer: Tokenizer, plan: Plan) -> None:
        self.folder, self.stage, self.tokenizer, self.settings = folder, stage, tokenizer, plan.settings
        self.limit = plan.training_limit
        self.path = folder.path / stage
        self.metrics = self.path / METRICS
        self.saved_best: int | None = None  # step of the weights in model.safetensors
        self.signals = StopSignals(lambda: self.say("stopping after this step; once more stops without saving"))
        self.recent: deque[tuple[float, float]] = deque(maxlen=SPEED_WINDOW)  # (seconds, loss) after each step

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Show the bar, and take the signals to stop."""
        with (
            progress_bar(total=1.0, description=self.stage, bar_format=BAR, delay=0) as self.bar,
            self.signals.listening(),
        ):
            yield

    def began(self) -> None:
        """Remove the files of an earlier training of this stage. Raises FileError when the system refuses."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (*MODEL_FILES, RESUME, METRICS, SAMPLES, PLOT):
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise FileError(
                f"cannot clear {self.path}: {error.strerror or error}; allow writing there, or choose another --run"
            ) from error

    def resumed(self, run: Run) -> None:
        """Bring the files of an earlier process into line with the state that training goes on from."""
        kept = [
            entry
            for entry in read_metrics(self.metrics)
            if entry["step"] <= (run.evaluated if "sample" in entry else run.step)
        ]
        with atomic_write(self.metrics) as file:
            file.writelines(json.dumps(entry) + "\n" for entry in kept)
        self._write_samples()

    def wants_stop(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self.signals.came.is_set()

    def stepped(self, run: Run, loss: float, grad_norm: float, multiplier: float) -> None:
        """Count a step; some go to metrics.jsonl."""
        self.recent.append((time.monotonic(), loss))
        self.bar.n = round(run.progress(self.limit, self.settings.config), 6)
        self.bar.set_description_str(f"{self.stage}: {self._status(run)}")
        if run.step % LOG_EVERY == 0:
            self._log(run, loss=round(loss, 5), grad_norm=round(grad_norm, 4), multiplier=round(multiplier, 5))

    def evaluated(self, run: Run, scores: Scores) -> None:
        """Say how held-out text fares, show a sample, and keep the weights where they are the best so far."""
        self.bar.set_description_str(f"{self.stage}: {self._status(run)}")
        best = run.best is not None and run.best.step == run.step
        sample = "".join(
            generate(run.model, self.tokenizer, SAMPLE_PROMPT, max_tokens=SAMPLE_TOKENS, seed=0, stage=self.stage)
        )
        sample = " ".join("".join(letter if letter.isprintable() else " " for letter in sample).split())
        figures = {"latest": scores.latest, "averaged": scores.averaged, "bits_per_byte": scores.best}
        rounded = {name: round(figure, 5) for name, figure in figures.items() if figure is not None}
        self._log(run, **rounded, sample=sample)
        self._write_samples()
        averaged = "" if scores.best == scores.latest else f", averaged; latest weights {scores.latest:.4f}"
        mark = " (best)" if best else ""
        self.say(f"step {run.step:,}  {self._status(run)}  held-out {scores.best:.4f} bits per byte{averaged}{mark}")
        self.say(f"    {sample}")
        if best:
            self.save_best(run)

    def checkpoint(self, run: Run) -> None:
        """Write resume.pt, so that a stop from here on loses nothing before this step."""
        if run.best is not None and run.best.step != self.saved_best:
            self.save_best(run)
        path = self.path / RESUME
        with self.folder.writing(path):
            save_checkpoint(path, run)

    def save_best(self, run: Run) -> None:
        """Write the best weights so far as a folder that transformers loads."""
        assert run.best is not None
        with self.folder.writing(*(self.path / name for name in MODEL_FILES)):
            save_folder(self.path, run.best.weights, run.model.config, self.tokenizer, stage=self.stage)
        self.saved_best = run.best.step

    def finished(self, run: Run) -> str:
        """Draw the losses; return what came of the training, in one line."""
        entries = read_metrics(self.metrics)
        plot = plot_losses(entries, self.path / PLOT, title=self.stage)
        assert run.best is not None
        minutes, seconds = divmod(round(run.seconds), 60)
        without = "" if plot else "; no plot: pip install matplotlib, and the next training has one"
        return (
            f"{run.step:,} steps in {minutes}:{seconds:02d}, "
            f"best held-out {run.best.bits_per_byte:.4f} bits per byte at step {run.best.step:,}{without}"
        )

    def say(self, line: str) -> None:
        """A line on stderr, above the bar where there is one; a training does not end because nobody reads on."""
        with contextlib.suppress(BrokenPipeError):
            self.bar.write(line, file=sys.stderr)

    def _status(self, run: Run) -> str:
        if len(self.recent) < 2:
            return "starting"
        (start, _), (end, _) = self.recent[0], self.recent[-1]
        speed = self.settings.tokens_per_step * (len(self.recent) - 1) / max(end - start, 1e-9)
        loss = sum(loss for _, loss in self.recent) / len(self.recent)
        held_out = f", best {run.best.bits_per_byte:.3f} bits/byte" if run.best else ""
        return f"loss {loss:.3f}{held_out}, {speed:,.0f} tokens/s{self._time_left(run, end - start)}"

    def _time_left(self, run: Run, recent_seconds: float) -> str:
        seconds = math.inf if self.limit.seconds is None else self.limit.seconds - run.seconds
        if (last := self.limit.last_step(run.plateau)) is not None:
            seconds = min(seconds, recent_seconds / (len(self.recent) - 1) * (last - run.step))
        if math.isinf(seconds):
            return ", until it no longer improves"
        minutes, rest = divmod(max(0, round(seconds)), 60)
        return f", {minutes}:{rest:02d} left"

    def _log(self, run: Run, **values: Any) -> None:
        """Add an entry to metrics.jsonl: appended, since the file of a long training is too long to write anew."""
        entry = {"step": run.step, "seconds": round(run.seconds, 2)} | values
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise FileError(
                f"cannot write {self.metrics}: {error.strerror or error}; make room there, or allow writing: "
                "the same command, without --restart, then goes on from the last save"
            ) from error

    def _write_samples(self) -> None:
        """Write samples.txt anew from metrics.jsonl: so it holds what a stopped training has gone back on no longer."""
        with atomic_write(self.path / SAMPLES) as file:
            for entry in read_metrics(self.metrics):
                if "sample" in entry:
                    file.write(
                        f"step {entry['step']}, {entry['bits_per_byte']:.4f} bits per byte\n{entry['sample']}\n\n"
                    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The entries of a metrics.jsonl in order, but a last line that a kill cut short; none where there is no file.

    Raises FileError when it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}; allow reading it, or delete it") from error
    entries = []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            entries.append(json.loads(line))
    return entries
