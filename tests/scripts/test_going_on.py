"""LLM-BPE.py on a run that has begun: going on, beginning anew, and what is lost by neither."""

import errno
import io
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.run import RunFolder

Door = Callable[..., int]
Said = Callable[[], str]
Same = Callable[[Path, Path], bool]


def test_a_finished_run_says_so_and_changes_nothing(pretrain: Door, tmp_path: Path, capfd: Any) -> None:
    run = tmp_path / "run"
    pretrain(run)
    before = (run / "pretrain" / "resume.pt").read_bytes()
    capfd.readouterr()
    assert pretrain(run) == 0
    assert "is finished" in capfd.readouterr().err
    assert (run / "pretrain" / "resume.pt").read_bytes() == before


def test_more_steps_go_on_from_a_finished_run(llm_bpe: Door, pretrain: Door, tmp_path: Path, capfd: Any) -> None:
    run = tmp_path / "run"
    pretrain(run)
    capfd.readouterr()
    assert llm_bpe("--stage", "pretrain", "--run", run, "--steps", 6) == 0  # the other options are the run's own
    assert "goes on from step 4" in capfd.readouterr().err
    assert RunFolder(run).stage("pretrain")["step"] == 6


def test_minutes_after_steps_measure_the_machine_where_there_is_something_left_to_train(
    llm_bpe: Door, pretrain: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model import beginning

    run, measured = tmp_path / "run", []

    def speed(*_: object, packed: bool) -> float:
        measured.append(packed)
        return 1e9

    monkeypatch.setattr(beginning, "tokens_per_second", speed)
    pretrain(run)
    assert llm_bpe("--stage", "pretrain", "--run", run, "--minutes", 1e-6) == 0  # it is finished
    assert measured == []
    assert llm_bpe("--stage", "pretrain", "--run", run, "--minutes", 0.05) == 0
    assert measured == [False]
    assert RunFolder(run).stage("pretrain")["closing_seconds"] > 0


def test_other_settings_than_the_runs_own_are_listed(
    llm_bpe: Door, pretrain: Door, tmp_path: Path, complaint: Said
) -> None:
    run = tmp_path / "run"
    pretrain(run)
    assert llm_bpe("--stage", "pretrain", "--run", run, "--steps", 9, "--seed", 5, "--width", 128) == 2
    said = complaint()
    assert "width 64 (asked: 128)" in said
    assert "seed 0 (asked: 5)" in said


def test_other_texts_than_the_runs_own_are_refused(
    pretrain: Door, corpus: Path, tmp_path: Path, complaint: Said
) -> None:
    run = tmp_path / "run"
    pretrain(run)
    (corpus / "texts" / "new.txt").write_text("Another text.\n")
    assert pretrain(run, "--steps", 9) == 2
    assert "give the same data to go on, or pass --restart" in complaint()


def test_restart_begins_anew_with_other_settings(pretrain: Door, tmp_path: Path, same_weights: Same) -> None:
    run = tmp_path / "run"
    pretrain(run)
    shutil.copytree(run, tmp_path / "before")
    assert pretrain(run, "--seed", 5, "--restart") == 0
    assert not same_weights(tmp_path / "before" / "pretrain", run / "pretrain")


def press_ctrl_c_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """When the training has taken so many steps."""
    from model import report

    stepped = report.TrainingReport.stepped

    def press_ctrl_c(self: Any, run: Any, *rest: Any) -> None:
        stepped(self, run, *rest)
        if run.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(report.TrainingReport, "stepped", press_ctrl_c)


@pytest.mark.parametrize("exercises", [0, 1, 3])
def test_ctrl_c_saves_and_the_same_command_goes_on(
    pretrain: Door, tmp_path: Path, same_weights: Same, complaint: Said, monkeypatch: pytest.MonkeyPatch, exercises: int
) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    from model import copying, plan

    wide = ("--layers", 2, "--width", 128)  # room for heads that copy
    if exercises:
        monkeypatch.setattr(plan, "EXERCISES", exercises)
        monkeypatch.setattr(copying, "EXERCISED_FROM", 1)
    assert pretrain(straight, *wide) == 0
    assert RunFolder(straight).stage("pretrain")["settings"]["train"]["exercises"] == exercises

    with monkeypatch.context() as patch:
        press_ctrl_c_at(2, patch)
        assert pretrain(stopped, *wide) == 130
    assert "stopped at step 2 and saved" in complaint()
    assert pretrain(stopped, *wide) == 0
    assert same_weights(straight / "pretrain", stopped / "pretrain")


def test_a_restart_that_was_stopped_goes_on_without_the_option_as_it_says(
    pretrain: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Said, capfd: Any
) -> None:
    run = tmp_path / "run"
    assert pretrain(run, "--steps", 1) == 0
    with monkeypatch.context() as patch:
        press_ctrl_c_at(2, patch)
        assert pretrain(run, "--restart") == 130
    assert "stopped at step 2 and saved; the same command without --restart goes on from there" in complaint()
    assert pretrain(run) == 0
    assert "goes on from step 2" in capfd.readouterr().err


def test_a_run_that_goes_on_with_less_memory_takes_smaller_micro_batches(
    pretrain: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert pretrain(run) == 0
    monkeypatch.setattr("model.memory.free_memory", lambda _: 1)
    assert pretrain(run, "--steps", 6) == 0
    assert torch.load(run / "pretrain" / "resume.pt", weights_only=True)["micro_tokens"] == 32  # a row


@pytest.mark.parametrize("purpose", ["reading", "encoding"])
def test_ctrl_c_before_the_first_step_leaves_nothing_half_written_and_the_same_command_begins_anew(
    pretrain: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, purpose: str
) -> None:
    """While words are counted for the tokenizer, and while token files are written."""
    from data import documents

    progress_bar = documents.progress_bar

    def press_ctrl_c(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def bar(*, description: str, **options: Any) -> Any:
        bar = progress_bar(description=description, **options)
        if description == purpose:
            bar.update = press_ctrl_c
        return bar

    monkeypatch.setattr(documents, "progress_bar", bar)
    assert pretrain(tmp_path / "run") == 130
    left = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert left == {".lock"} | ({"run.json", "tokenizer.json"} if purpose == "encoding" else set())
    monkeypatch.undo()
    assert pretrain(tmp_path / "run") == 0


def refuse_writing(patch: pytest.MonkeyPatch, name: str, error: int) -> None:
    """Let the system refuse every file whose name holds `name`: to be opened (EACCES), or to be written (ENOSPC)."""

    class Full(io.FileIO):
        def write(self, _: object) -> int:
            raise OSError(error, os.strerror(error))

    really_open = Path.open

    def open_file(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if name not in path.name or mode in ("r", "rb"):
            return really_open(path, mode, *rest, **options)
        if error == errno.EACCES:
            raise OSError(error, os.strerror(error), str(path))
        file = io.BufferedWriter(Full(str(path), mode.replace("b", "")))
        return file if "b" in mode else io.TextIOWrapper(file, encoding="utf-8")

    patch.setattr(Path, "open", open_file)


WRITTEN = ["resume.pt", "model.safetensors", "run.json", "metrics.jsonl", "samples.txt", "loss.png"]


@pytest.mark.parametrize(
    ("name", "error"),
    [(name, errno.ENOSPC) for name in WRITTEN] + [("resume.pt", errno.EACCES), ("metrics.jsonl", errno.EACCES)],
)
def test_a_disk_that_takes_no_more_loses_nothing(
    pretrain: Door,
    tmp_path: Path,
    same_weights: Same,
    complaint: Said,
    capfd: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: int,
) -> None:
    if name == "loss.png":
        pytest.importorskip("matplotlib")
    run = tmp_path / "run"
    pretrain(run)
    capfd.readouterr()
    with monkeypatch.context() as patch:
        refuse_writing(patch, name, error)
        assert pretrain(run, "--steps", 6) == 2
    assert re.fullmatch(rf"LLM-BPE: cannot write .*{re.escape(name)}: {os.strerror(error)}; .*", complaint())
    assert not list(run.rglob("*.tmp"))
    assert pretrain(run, "--steps", 6) == 0
    RunFolder(run).verify(run)
    pretrain(tmp_path / "straight")
    pretrain(tmp_path / "straight", "--steps", 6)
    assert same_weights(run / "pretrain", tmp_path / "straight" / "pretrain")
    steps = [json.loads(line)["step"] for line in (run / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 4, 6]
    samples = (run / "pretrain" / "samples.txt").read_text()
    assert [line.split(",")[0] for line in samples.splitlines() if line.startswith("step ")] == [
        "step 0",
        "step 4",
        "step 6",
    ]


def test_a_divergence_keeps_the_last_good_state(
    pretrain: Door, tmp_path: Path, complaint: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    pretrain(run)
    good = (run / "pretrain" / "model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("model.train.accumulate_gradients", lambda *_: float("nan"))
        assert pretrain(run, "--steps", 6) == 2
    assert "step 4 diverged: loss nan" in complaint()
    RunFolder(run).verify(run)
    assert good == (run / "pretrain" / "model.safetensors").read_bytes()
    assert pretrain(run, "--steps", 6) == 0


def test_a_learning_rate_that_is_far_too_high_ends_in_one_line_with_the_best_weights_kept(
    pretrain: Door, tmp_path: Path, complaint: Said, weights: Callable[[Path], dict[str, Tensor]]
) -> None:
    run = tmp_path / "run"
    assert pretrain(run, "--lr", "1e30", "--steps", 9, "--eval-every", 1) == 2
    said = complaint()
    assert re.search(r"diverged: .*; the weights of step \d+ are kept, until a lower --lr with --restart", said), said
    assert all(tensor.isfinite().all() for tensor in weights(run / "pretrain").values())
    RunFolder(run).verify(run)


class Killed(BaseException):
    """What nothing catches, as no process catches SIGKILL."""


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_stage_killed_before_its_first_save_begins_where_it_began(
    pretrain: Door, finetune: Door, tmp_path: Path, same_weights: Same, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def kill(*_: object, **__: object) -> None:
        raise Killed

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    train = {"pretrain": pretrain, "finetune": finetune}[stage]
    for run in (straight, killed):
        if stage == "finetune":
            pretrain(run)
        with monkeypatch.context() as patch:
            if run == killed:
                patch.setattr("model.train.evaluate", kill)
                with pytest.raises(Killed):
                    train(run)
                assert RunFolder(run).stage(stage)["state"] == "training"
        assert train(run) == 0
    assert same_weights(straight / stage, killed / stage)


def test_a_second_ctrl_c_stops_at_once_and_loses_only_what_was_not_saved(
    pretrain: Door, tmp_path: Path, same_weights: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    pretrain(straight)
    from model import report

    stepped = report.TrainingReport.stepped

    def press_ctrl_c_twice(self: Any, run: Any, *rest: Any) -> None:
        stepped(self, run, *rest)
        if run.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(report.TrainingReport, "stepped", press_ctrl_c_twice)
    assert pretrain(stopped) == 130
    assert [entry["step"] for entry in report.read_metrics(stopped / "pretrain" / "metrics.jsonl")] == [0]
    monkeypatch.undo()
    assert pretrain(stopped) == 0
    assert same_weights(straight / "pretrain", stopped / "pretrain")


IMPOSSIBLE_RESTARTS: dict[str, tuple[list[str], str]] = {
    "vocabulary": (["--vocab-size", "100000"], "ask for"),
    "preset": (["--preset", "huge"], "no preset"),
    "context": (["--context", "4", "--vocab-size", "290"], "too short"),
    "minutes": (["--minutes", "0.00001", "--vocab-size", "290"], "preparing the data took"),
}


@pytest.mark.parametrize("why", IMPOSSIBLE_RESTARTS)
def test_a_restart_that_cannot_be_loses_nothing(
    llm_bpe: Door,
    pretrain: Door,
    corpus: Path,
    tmp_path: Path,
    tiny: list[str],
    quick: list[str],
    complaint: Said,
    why: str,
) -> None:
    run = tmp_path / "run"
    pretrain(run)
    options, words = IMPOSSIBLE_RESTARTS[why]
    given = ("--stage", "pretrain", "--run", run, "--texts", corpus / "texts", *tiny, *quick)
    assert llm_bpe(*given, "--restart", *options) == 2
    assert words in complaint()
    RunFolder(run).verify(run)
    assert pretrain(run, "--steps", 6) == 0
    assert RunFolder(run).stage("pretrain")["step"] == 6


def test_a_restart_keeps_what_is_not_ours(pretrain: Door, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pretrain(run)
    (run / "pretrain" / "notes.txt").write_text("my own")
    assert pretrain(run, "--restart", "--steps", 2) == 0
    assert (run / "pretrain" / "notes.txt").read_text() == "my own"


def test_a_finished_run_needs_neither_its_data_nor_its_checkpoint_to_say_so(
    pretrain: Door, corpus: Path, tmp_path: Path, complaint: Said, capfd: Any
) -> None:
    run = tmp_path / "run"
    pretrain(run)
    shutil.rmtree(corpus)
    (run / "pretrain" / "resume.pt").unlink()
    capfd.readouterr()
    assert pretrain(run) == 0
    assert "is finished" in capfd.readouterr().err
    assert pretrain(run, "--steps", 6) == 2
    assert "resume.pt is missing" in complaint()
    assert (run / "pretrain" / "model.safetensors").exists()


@pytest.mark.parametrize("damage", ["limit", "settings", "texts"])
def test_a_damaged_record_of_a_stage_is_one_line_and_a_restart_goes_on(
    pretrain: Door, tmp_path: Path, complaint: Said, damage: str
) -> None:
    run = tmp_path / "run"
    pretrain(run)
    record = json.loads((run / "run.json").read_text())
    record["stages"]["pretrain"][damage] = 5
    (run / "run.json").write_text(json.dumps(record))
    assert pretrain(run, "--steps", 6) == 2
    assert re.fullmatch(r"LLM-BPE: run\.json holds settings that are damaged.*--restart to train anew", complaint())
    assert pretrain(run, "--restart") == 0


def test_a_damaged_record_of_what_is_finetuned_does_no_harm(pretrain: Door, finetune: Door, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pretrain(run)
    record = json.loads((run / "run.json").read_text())
    record["stages"]["pretrain"]["settings"] = 5
    (run / "run.json").write_text(json.dumps(record))
    assert finetune(run) == 0


def test_a_restart_of_all_stages_does_not_ask_what_the_second_was(
    llm_bpe: Door, corpus: Path, tmp_path: Path, tiny: list[str], quick: list[str]
) -> None:
    run = tmp_path / "run"
    data = ("--texts", corpus / "texts", "--pairs", corpus / "pairs")
    given = ("--stage", "all", "--run", run, *data, *tiny, *quick, "--steps", 3)
    assert llm_bpe(*given) == 0
    record = json.loads((run / "run.json").read_text())
    record["stages"]["finetune"]["limit"] = 5
    (run / "run.json").write_text(json.dumps(record))
    assert llm_bpe(*given, "--seed", 1, "--restart") == 0
    assert RunFolder(run).stage("finetune")["settings"]["train"]["seed"] == 1


def test_a_tokenizer_that_is_there_is_not_trained_anew_unasked(
    llm_bpe: Door, pretrain: Door, corpus: Path, tmp_path: Path, complaint: Said, capfd: Any
) -> None:
    run = tmp_path / "run"
    given = ("--stage", "tokenizer", "--run", run, "--texts", corpus / "texts")
    assert llm_bpe(*given, "--vocab-size", 300) == 0
    assert complaint() == f"next: python LLM-BPE.py --stage pretrain --run {run}"
    assert pretrain(run) == 0
    assert f"with the run's tokenizer: 300 tokens, trained on {corpus / 'texts'};" in capfd.readouterr().err
    before = (run / "tokenizer.json").read_bytes()
    assert llm_bpe(*given) == 0
    assert "tokenizer.json is finished" in capfd.readouterr().err
    assert llm_bpe(*given, "--vocab-size", 290) == 2
    assert "has 300 tokens, not 290" in complaint()
    assert (run / "tokenizer.json").read_bytes() == before
    assert llm_bpe(*given, "--vocab-size", 290, "--restart") == 0
    assert pretrain(run, "--steps", 6) == 2
    assert "was trained with tokenizer" in complaint()


@pytest.mark.parametrize(("stage", "step", "goes_on"), [("finetune", 2, True), ("pretrain", 4, False)])
def test_all_stages_stopped_in_the_second_or_at_the_end_of_the_first_go_on_there(
    llm_bpe: Door,
    corpus: Path,
    tmp_path: Path,
    tiny: list[str],
    quick: list[str],
    same_weights: Same,
    capfd: Any,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    step: int,
    goes_on: bool,
) -> None:
    from model import report

    stepped = report.TrainingReport.stepped

    def press_ctrl_c(self: Any, run: Any, *rest: Any) -> None:
        stepped(self, run, *rest)
        if (self.stage, run.step) == (stage, step):
            os.kill(os.getpid(), signal.SIGINT)

    def everything(run: Path) -> int:
        data = ("--texts", corpus / "texts", "--pairs", corpus / "pairs")
        return llm_bpe("--stage", "all", "--run", run, *data, *tiny, *quick, "--steps", 4)

    assert everything(tmp_path / "straight") == 0
    with monkeypatch.context() as patch:
        patch.setattr(report.TrainingReport, "stepped", press_ctrl_c)
        assert everything(tmp_path / "stopped") == 130
    assert (tmp_path / "stopped" / "finetune").exists() == goes_on
    capfd.readouterr()
    assert everything(tmp_path / "stopped") == 0
    said = capfd.readouterr().err
    assert "pretrain is finished" in said
    assert ("finetune goes on from step 2" in said) == goes_on
    assert same_weights(tmp_path / "straight" / "finetune", tmp_path / "stopped" / "finetune")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pretrain/resume.pt", "resume.pt was changed"),
        ("tokenizer.json", "tokenizer.json was changed"),
        ("run.json", "run.json is damaged"),
        ("tokens/pretrain-train.bin", ""),
        ("tokens/pretrain-valid.json", ""),
    ],
)
def test_a_file_cut_short_is_named_or_made_anew(
    pretrain: Door, tmp_path: Path, same_weights: Same, complaint: Said, name: str, said: str
) -> None:
    run, straight = tmp_path / "run", tmp_path / "straight"
    for folder in (run, straight):
        pretrain(folder)
    whole = (run / name).read_bytes()
    (run / name).write_bytes(whole[: len(whole) // 2])
    assert pretrain(run, "--steps", 6) == (2 if said else 0)
    assert said in complaint()
    (run / name).write_bytes(whole)
    assert pretrain(run, "--steps", 6) == pretrain(straight, "--steps", 6) == 0
    assert same_weights(run / "pretrain", straight / "pretrain")
