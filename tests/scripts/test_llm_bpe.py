"""LLM-BPE.py: the way from texts to a finetuned model, going on, and everything a user can get wrong."""

import errno
import io
import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from model.run import RunFolder

Door = Callable[..., int]
TINY = ["--preset", "nano", "--layers", "1", "--width", "64", "--context", "32", "--vocab-size", "300"]
QUICK = ["--batch-tokens", "64", "--device", "cpu", "--dtype", "float32"]


def pretrain(door: Door, corpus: Path, run: Path, *more: object) -> int:
    return door("--stage", "pretrain", "--run", run, "--texts", corpus / "texts", *TINY, *QUICK, "--steps", 4, *more)


def finetune(door: Door, corpus: Path, run: Path, *more: object) -> int:
    return door("--stage", "finetune", "--run", run, "--pairs", corpus / "pairs", *QUICK, "--steps", 3, *more)


def complaint(capfd: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr last; nothing may be on stdout."""
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


def weights(run: Path, stage: str) -> dict[str, Any]:
    return load_file(run / stage / "model.safetensors")


def same_weights(run: Path, other: Path, stage: str) -> bool:
    others = weights(other, stage)
    return all(tensor.equal(others[name]) for name, tensor in weights(run, stage).items())


def test_a_run_goes_from_texts_to_a_finetuned_model(llm_bpe: Door, corpus: Path, tmp_path: Path, capfd: Any) -> None:
    run = tmp_path / "run"
    assert pretrain(llm_bpe, corpus, run) == 0
    assert "next: python LLM-BPE.py --stage finetune --run" in complaint(capfd)
    assert finetune(llm_bpe, corpus, run) == 0
    assert "next: python LLM-Generate.py" in complaint(capfd)
    names = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}
    for stage in ("pretrain", "finetune"):
        found = {path.name for path in (run / stage).iterdir()}
        assert found >= names | {"resume.pt", "metrics.jsonl", "samples.txt"}
        entries = [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]
        assert {"step", "seconds", "bits_per_byte"} <= entries[0].keys()
    assert RunFolder(run).stage("finetune")["state"] == "finished"
    RunFolder(run).verify(run)


def test_all_stages_in_one_command_make_the_same_run(llm_bpe: Door, corpus: Path, tmp_path: Path) -> None:
    data = ("--texts", corpus / "texts", "--pairs", corpus / "pairs")
    assert llm_bpe("--stage", "all", "--run", tmp_path / "run", *data, *TINY, *QUICK, "--steps", 3) == 0
    assert RunFolder(tmp_path / "run").stage("finetune")["step"] == 3


def test_a_timed_run_ends_on_time_with_the_learning_rate_decayed(llm_bpe: Door, corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    texts = ("--texts", corpus / "texts")
    assert llm_bpe("--stage", "pretrain", "--run", run, *texts, *TINY, *QUICK, "--minutes", 0.12) == 0
    stage = RunFolder(run).stage("pretrain")
    assert stage["seconds"] < 0.12 * 60 + 10
    entries = [json.loads(line) for line in (run / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    assert [entry["multiplier"] for entry in entries if "multiplier" in entry][-1] < 0.1


def test_a_finished_run_says_so_and_changes_nothing(llm_bpe: Door, corpus: Path, tmp_path: Path, capfd: Any) -> None:
    run = tmp_path / "run"
    pretrain(llm_bpe, corpus, run)
    before = (run / "pretrain" / "resume.pt").read_bytes()
    capfd.readouterr()
    assert pretrain(llm_bpe, corpus, run) == 0
    assert "is finished" in capfd.readouterr().err
    assert (run / "pretrain" / "resume.pt").read_bytes() == before


def test_more_steps_go_on_from_a_finished_run(llm_bpe: Door, corpus: Path, tmp_path: Path, capfd: Any) -> None:
    run = tmp_path / "run"
    pretrain(llm_bpe, corpus, run)
    capfd.readouterr()
    assert llm_bpe("--stage", "pretrain", "--run", run, "--steps", 6) == 0  # the other options are the run's own
    assert "goes on from step 4" in capfd.readouterr().err
    assert RunFolder(run).stage("pretrain")["step"] == 6


def test_other_settings_than_the_runs_own_are_listed(llm_bpe: Door, corpus: Path, tmp_path: Path, capfd: Any) -> None:
    run = tmp_path / "run"
    pretrain(llm_bpe, corpus, run)
    assert llm_bpe("--stage", "pretrain", "--run", run, "--steps", 9, "--seed", 5, "--width", 128) == 2
    said = complaint(capfd)
    assert "width 64 (asked: 128)" in said
    assert "seed 0 (asked: 5)" in said


def test_other_texts_than_the_runs_own_are_refused(llm_bpe: Door, corpus: Path, tmp_path: Path, capfd: Any) -> None:
    run = tmp_path / "run"
    pretrain(llm_bpe, corpus, run)
    (corpus / "texts" / "new.txt").write_text("Another text.\n")
    assert pretrain(llm_bpe, corpus, run, "--steps", 9)
    assert "give the same data to go on, or pass --restart" in complaint(capfd)


def test_restart_begins_anew_with_other_settings(llm_bpe: Door, corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pretrain(llm_bpe, corpus, run)
    shutil.copytree(run, tmp_path / "before")
    assert pretrain(llm_bpe, corpus, run, "--seed", 5, "--restart") == 0
    assert not same_weights(tmp_path / "before", run, "pretrain")


def test_ctrl_c_saves_and_the_same_command_goes_on(
    llm_bpe: Door, corpus: Path, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    pretrain(llm_bpe, corpus, straight)
    from model import report

    stepped = report.TrainingReport.stepped

    def press_ctrl_c(self: Any, run: Any, *rest: Any) -> None:
        stepped(self, run, *rest)
        if run.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(report.TrainingReport, "stepped", press_ctrl_c)
    assert pretrain(llm_bpe, corpus, stopped) == 130
    assert "stopped at step 2 and saved" in complaint(capfd)
    monkeypatch.undo()
    assert pretrain(llm_bpe, corpus, stopped) == 0
    assert same_weights(straight, stopped, "pretrain")


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
    llm_bpe: Door, corpus: Path, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch, name: str, error: int
) -> None:
    if name == "loss.png":
        pytest.importorskip("matplotlib")
    run = tmp_path / "run"
    pretrain(llm_bpe, corpus, run)
    capfd.readouterr()
    with monkeypatch.context() as patch:
        refuse_writing(patch, name, error)
        assert pretrain(llm_bpe, corpus, run, "--steps", 6) == 2
    assert re.fullmatch(rf"LLM-BPE: cannot write .*{re.escape(name)}: {os.strerror(error)}; .*", complaint(capfd))
    assert not list(run.rglob("*.tmp"))
    assert pretrain(llm_bpe, corpus, run, "--steps", 6) == 0
    RunFolder(run).verify(run)
    pretrain(llm_bpe, corpus, tmp_path / "straight")
    pretrain(llm_bpe, corpus, tmp_path / "straight", "--steps", 6)
    assert same_weights(run, tmp_path / "straight", "pretrain")
    steps = [json.loads(line)["step"] for line in (run / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 4, 6]
    samples = (run / "pretrain" / "samples.txt").read_text()
    assert [line.split(",")[0] for line in samples.splitlines() if line.startswith("step ")] == [
        "step 0",
        "step 4",
        "step 6",
    ]


def test_a_divergence_keeps_the_last_good_state(
    llm_bpe: Door, corpus: Path, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    pretrain(llm_bpe, corpus, run)
    monkeypatch.setattr("model.train.accumulate_gradients", lambda *_: float("nan"))
    assert pretrain(llm_bpe, corpus, run, "--steps", 6) == 2
    assert "step 4 diverged" in complaint(capfd)
    RunFolder(run).verify(run)


def write_bytes(corpus: Path, content: bytes) -> None:
    for file in (corpus / "texts").iterdir():
        file.write_bytes(content)


BAD_TEXTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "binary": (b"\x00\x01\x02" * 100, "text"),
    "latin-1": ("Caf\xe9 au lait".encode("latin-1"), "UTF-8"),
}


@pytest.mark.parametrize("kind", BAD_TEXTS)
def test_texts_that_are_none_are_one_clear_line(
    llm_bpe: Door, corpus: Path, tmp_path: Path, capfd: Any, kind: str
) -> None:
    content, word = BAD_TEXTS[kind]
    write_bytes(corpus, content)
    assert pretrain(llm_bpe, corpus, tmp_path / "run") == 2
    said = complaint(capfd)
    assert said.startswith("LLM-BPE: ")
    assert word in said


WRONG_OPTIONS: dict[str, tuple[list[str], str]] = {
    "preset": (["--preset", "huge"], "there is no preset 'huge'"),
    "device": (["--device", "abacus"], "no device 'abacus'"),
    "dtype": (["--dtype", "float3"], "no number format 'float3'"),
    "two limits": (["--minutes", "1"], "pass one of them"),
    "vocabulary": (["--vocab-size", "100000"], "ask for"),
    "tiny vocabulary": (["--vocab-size", "100"], "ask for 259 or more"),
    "batch": (["--batch-tokens", "16"], "less than one row"),
    "rate": (["--lr", "-1"], "above 0"),
    "steps": (["--steps", "0"], "trains nothing"),
}


@pytest.mark.parametrize("kind", WRONG_OPTIONS)
def test_an_impossible_option_is_one_clear_line(
    llm_bpe: Door, corpus: Path, tmp_path: Path, capfd: Any, kind: str
) -> None:
    options, words = WRONG_OPTIONS[kind]
    assert pretrain(llm_bpe, corpus, tmp_path / "run", *options) == 2
    said = complaint(capfd)
    assert said.startswith("LLM-BPE: ")
    assert words in said


def test_finetuning_needs_a_pretrained_run_and_says_so(llm_bpe: Door, corpus: Path, tmp_path: Path, capfd: Any) -> None:
    assert finetune(llm_bpe, corpus, tmp_path / "run") == 2
    assert "python LLM-BPE.py --stage pretrain" in complaint(capfd)


def test_finetuning_from_another_run_brings_its_tokenizer(llm_bpe: Door, corpus: Path, tmp_path: Path) -> None:
    pretrain(llm_bpe, corpus, tmp_path / "old")
    assert finetune(llm_bpe, corpus, tmp_path / "new", "--from", tmp_path / "old") == 0
    assert (tmp_path / "new" / "tokenizer.json").read_bytes() == (tmp_path / "old" / "tokenizer.json").read_bytes()


def test_a_tokenizer_that_is_not_the_runs_own_is_refused(
    llm_bpe: Door, corpus: Path, tmp_path: Path, capfd: Any
) -> None:
    run = tmp_path / "run"
    pretrain(llm_bpe, corpus, run)
    (run / "tokenizer.json").write_text("{}")
    assert pretrain(llm_bpe, corpus, run, "--steps", 9) == 2
    assert "tokenizer.json was changed" in complaint(capfd)


@pytest.mark.parametrize("stage, ways", [("pretrain", ("--texts", "sample")), ("finetune", ("--pairs", "sample"))])
def test_without_a_network_the_two_ways_on_are_named(
    llm_bpe: Door,
    corpus: Path,
    tmp_path: Path,
    capfd: Any,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    ways: tuple[str, str],
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror("name resolution is off")

    run = tmp_path / "run"
    if stage == "finetune":
        pretrain(llm_bpe, corpus, run)
    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    assert llm_bpe("--stage", stage, "--run", run, "--downloads", tmp_path / "downloads", *QUICK, "--steps", 1) == 2
    said = complaint(capfd)
    assert all(way in said for way in ways), said


def test_a_run_that_another_process_trains_is_left_alone(
    llm_bpe: Door, corpus: Path, tmp_path: Path, capfd: Any
) -> None:
    with RunFolder(tmp_path / "run").locked():
        assert pretrain(llm_bpe, corpus, tmp_path / "run") == 2
    assert "another process is training in" in complaint(capfd)


def test_a_command_line_that_cannot_be_read_is_one_clear_line(llm_bpe: Door, capfd: Any) -> None:
    assert llm_bpe() == 2
    assert complaint(capfd) == "LLM-BPE: the following arguments are required: --stage; --help lists the options"
