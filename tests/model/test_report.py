"""Laws of what a training leaves on disk and says: one report, told of steps by the tests."""

import builtins
import errno
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bpe import Tokenizer
from bpe.errors import FileError
from model.build import LanguageModel
from model.config import ModelConfig
from model.folder import MODEL_FILES, load_folder
from model.optimizer import Optimizer
from model.plan import Plan
from model.report import METRICS, PLOT, RESUME, SAMPLES, TrainingReport, read_metrics
from model.request import Settings
from model.run import RunFolder
from model.settings import STAGES, Limit
from model.train import Best, Run, Scores

CONFIG = STAGES["pretrain"]


@pytest.fixture
def run(perturbed: Callable[..., LanguageModel], config: ModelConfig) -> Run:
    model = perturbed(config)
    return Run(model, Optimizer(model, CONFIG), torch.float32, torch.device("cpu"))


@pytest.fixture
def report(tmp_path: Path, tok: Tokenizer, config: ModelConfig) -> TrainingReport:
    settings = Settings(shape=config, config=CONFIG, dtype="float32", preset="nano")
    made = TrainingReport(RunFolder(tmp_path), "pretrain", tok, Plan(settings, Limit(steps=40)))
    made.began()
    return made


def evaluate(report: TrainingReport, run: Run, step: int, bits_per_byte: float) -> None:
    """As the loop does: the best weights are known before the report is told."""
    run.step = step
    if run.best is None or bits_per_byte < run.best.bits_per_byte:
        weights = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
        run.best = Best(step, bits_per_byte, weights)
    report.evaluated(run, Scores(latest=bits_per_byte + 0.1, averaged=bits_per_byte))


def test_a_training_goes_on_when_nobody_reads_what_it_says(
    report: TrainingReport, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as nobody, report.watching():
        monkeypatch.setattr(sys, "stderr", nobody)
        evaluate(report, run, 20, 3.0)
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            nobody.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)
    assert len(read_metrics(report.metrics)) == 1


def test_every_evaluation_leaves_a_figure_and_a_sample_and_the_best_one_a_model(
    report: TrainingReport, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    with report.watching():
        evaluate(report, run, 0, 3.0)
        saved = (report.path / "model.safetensors").read_bytes()
        next(run.model.parameters()).data.mul_(2)
        evaluate(report, run, 20, 3.5)
        assert (report.path / "model.safetensors").read_bytes() == saved
        evaluate(report, run, 40, 2.5)
    entries = read_metrics(report.metrics)
    assert [(entry["step"], entry["bits_per_byte"]) for entry in entries] == [(0, 3.0), (20, 3.5), (40, 2.5)]
    assert [(entry["latest"], entry["averaged"]) for entry in entries] == [(3.1, 3.0), (3.6, 3.5), (2.6, 2.5)]
    samples = (report.path / SAMPLES).read_text(encoding="utf-8").strip().split("\n\n")
    assert samples == [
        f"step {e['step']}, {e['bits_per_byte']:.4f} bits per byte\n{e['sample']}".strip() for e in entries
    ]
    assert all(entry["sample"].isprintable() for entry in entries)  # a terminal obeys what is not
    loaded, _ = load_folder(report.path)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in run.model.state_dict().items())
    report.folder.verify(report.path)
    out, err = capfd.readouterr()
    assert out == ""
    assert [bool(re.search(r"\(best\)$", line)) for line in err.splitlines() if line.startswith("step ")] == [1, 0, 1]


def test_losses_are_recorded_every_so_many_steps(report: TrainingReport, run: Run) -> None:
    with report.watching():
        for step in range(1, 31):
            run.step = step
            report.stepped(run, loss=5.0, grad_norm=1.0, multiplier=0.5)
    assert [entry["step"] for entry in read_metrics(report.metrics)] == [10, 20, 30]
    assert read_metrics(report.metrics)[0].keys() == {"step", "seconds", "loss", "grad_norm", "multiplier"}


def test_a_training_without_a_limit_says_how_much_is_left_when_its_end_is_known(
    report: TrainingReport, run: Run
) -> None:
    report.limit = Limit()
    report.recent.extend((float(step), 5.0) for step in range(-3, 0))
    run.step = 40
    assert report._time_left(run, 2.0) == ", until it no longer improves"
    run.plateau = 40  # ten more steps, of which two are taken
    run.step = 42
    assert report._time_left(run, 2.0) == ", 0:08 left"


@pytest.mark.parametrize("cut", [0, 1, 25])
def test_a_stopped_training_goes_back_on_what_it_noted_after_its_last_save(
    report: TrainingReport, run: Run, cut: int
) -> None:
    with report.watching():
        for step in (0, 20, 40):
            evaluate(report, run, step, 3.0)
    whole = report.metrics.read_bytes()
    report.metrics.write_bytes(whole[: len(whole) - cut])  # a kill may cut the last line short
    run.step = run.evaluated = 20
    report.resumed(run)
    assert [entry["step"] for entry in read_metrics(report.metrics)] == [0, 20]
    assert (report.path / SAMPLES).read_text(encoding="utf-8").count("bits per byte") == 2


def test_an_evaluation_that_comes_again_stands_there_once(report: TrainingReport, run: Run) -> None:
    with report.watching():
        evaluate(report, run, 0, 3.0)
        run.step = 20
        report.stepped(run, loss=5.0, grad_norm=1.0, multiplier=0.5)
        evaluate(report, run, 20, 2.5)
    run.step, run.evaluated = 20, 0  # a stop at step 20 saved before the evaluation that was due, and then a kill
    report.resumed(run)
    kept = [(entry["step"], "sample" in entry) for entry in read_metrics(report.metrics)]
    assert kept == [(0, True), (20, False)]
    assert (report.path / SAMPLES).read_text(encoding="utf-8").count("bits per byte") == 1


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES])
def test_figures_that_cannot_be_added_are_one_line(
    report: TrainingReport, run: Run, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    run.step = 10
    monkeypatch.setattr(io, "open", refuse)
    with (
        report.watching(),
        pytest.raises(FileError, match=rf"^cannot write .*metrics\.jsonl: {os.strerror(error)}; make room"),
    ):
        report.stepped(run, loss=5.0, grad_norm=1.0, multiplier=0.5)


def test_figures_that_cannot_be_read_are_one_line(report: TrainingReport, run: Run) -> None:
    report.metrics.mkdir()
    with pytest.raises(FileError, match=r"^cannot read .*metrics\.jsonl: "):
        report.resumed(run)


def test_a_training_that_begins_removes_the_files_of_the_one_before_and_no_others(report: TrainingReport) -> None:
    ours = [*MODEL_FILES, RESUME, METRICS, SAMPLES, PLOT]
    for name in [*ours, "notes.txt"]:
        (report.path / name).write_text("old")
    report.began()
    assert [path.name for path in report.path.iterdir()] == ["notes.txt"]


def test_a_place_that_cannot_be_cleared_is_one_line(report: TrainingReport) -> None:
    (report.path / RESUME).mkdir()
    with pytest.raises(FileError, match=r"^cannot clear .*; allow writing there"):
        report.began()


def test_a_finished_training_is_told_in_a_line_and_drawn(report: TrainingReport, run: Run) -> None:
    pytest.importorskip("matplotlib")
    with report.watching():
        evaluate(report, run, 0, 3.0)
        run.step = 10
        report.stepped(run, loss=5.0, grad_norm=1.0, multiplier=0.5)
        evaluate(report, run, 40, 2.5)
    run.earlier_seconds, run.started = 83, time.monotonic()
    said = report.finished(run)
    assert re.fullmatch(r"40 steps in 1:2\d, best held-out 2\.5000 bits per byte at step 40", said)
    assert (report.path / PLOT).read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_is_no_plot_and_the_line_says_why(
    report: TrainingReport, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_import = builtins.__import__

    def import_all_but(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return really_import(name, *rest)

    with report.watching():
        evaluate(report, run, 0, 3.0)
    monkeypatch.setattr(builtins, "__import__", import_all_but)
    assert report.finished(run).endswith("; no plot: pip install matplotlib, and the next training has one")
    assert not (report.path / PLOT).exists()


def test_ctrl_c_asks_for_a_stop_and_a_second_one_stops_now(report: TrainingReport) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with report.watching():
        assert not report.wants_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert report.wants_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
