"""LLM-BPE.py: the way from texts to a finetuned model, and everything a user can get wrong."""

import errno
import json
import os
import re
import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bpe import Tokenizer
from data import documents
from data.sources import PAIRS, TEXTS
from model import beginning
from model.config import PRESETS
from model.minutes import SAVING_SECONDS
from model.plan import Plan
from model.run import RunFolder

Door = Callable[..., int]
Said = Callable[[], str]
ROOT = Path(__file__).resolve().parents[2]


def test_a_run_goes_from_texts_to_a_finetuned_model(
    pretrain: Door, finetune: Door, tmp_path: Path, complaint: Said
) -> None:
    run = tmp_path / "run"
    assert pretrain(run) == 0
    assert "next: python LLM-BPE.py --stage finetune --run" in complaint()
    assert finetune(run) == 0
    assert "next: python LLM-Generate.py" in complaint()
    names = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}
    for stage in ("pretrain", "finetune"):
        found = {path.name for path in (run / stage).iterdir()}
        assert found >= names | {"resume.pt", "metrics.jsonl", "samples.txt"}
        entries = [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]
        assert {"step", "seconds", "bits_per_byte"} <= entries[0].keys()
    assert RunFolder(run).stage("finetune")["state"] == "finished"
    RunFolder(run).verify(run)


def test_all_stages_in_one_command_make_the_same_run(
    llm_bpe: Door, corpus: Path, tmp_path: Path, tiny: list[str], quick: list[str]
) -> None:
    data = ("--texts", corpus / "texts", "--pairs", corpus / "pairs")
    assert llm_bpe("--stage", "all", "--run", tmp_path / "run", *data, *tiny, *quick, "--steps", 3) == 0
    assert RunFolder(tmp_path / "run").stage("finetune")["step"] == 3


@pytest.mark.slow
def test_a_timed_run_ends_on_time_with_the_learning_rate_decayed(
    llm_bpe: Door, corpus: Path, tmp_path: Path, tiny: list[str], quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    preparing, for_text, make_plan = [], Plan.for_text, beginning.make_plan
    text_sizes = []

    def noted(plan: Plan, *text: Any, preparing_seconds: float) -> Plan:
        preparing.append(preparing_seconds)
        return for_text(plan, *text, preparing_seconds)

    def planned(*asked: Any, text_bytes: float) -> Plan:
        text_sizes.append(text_bytes)
        return make_plan(*asked, text_bytes=text_bytes)

    monkeypatch.setattr(Plan, "for_text", noted)
    monkeypatch.setattr(beginning, "make_plan", planned)
    run = tmp_path / "run"
    texts = ("--texts", corpus / "texts")
    assert llm_bpe("--stage", "pretrain", "--run", run, *texts, *tiny, *quick, "--minutes", 0.12) == 0
    assert text_sizes == [sum(file.stat().st_size for file in (corpus / "texts").iterdir())]
    stage = RunFolder(run).stage("pretrain")
    assert 0.12 * 60 - SAVING_SECONDS - 1 < stage["seconds"] < 0.12 * 60 + 10
    assert 0 < preparing[0] < stage["seconds"]
    entries = [json.loads(line) for line in (run / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    assert [entry["multiplier"] for entry in entries if "multiplier" in entry][-1] < 0.1


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
    pretrain: Door, corpus: Path, tmp_path: Path, complaint: Said, kind: str
) -> None:
    content, word = BAD_TEXTS[kind]
    write_bytes(corpus, content)
    assert pretrain(tmp_path / "run") == 2
    said = complaint()
    assert said.startswith("LLM-BPE: ")
    assert word in said


def test_a_text_of_nothing_is_one_clear_line_where_the_preset_hangs_on_its_size(
    llm_bpe: Door, corpus: Path, tmp_path: Path, complaint: Said
) -> None:
    write_bytes(corpus, b"")
    assert llm_bpe("--stage", "pretrain", "--run", tmp_path, "--texts", corpus / "texts", "--minutes", 0.1) == 2
    assert "empty" in complaint()


WRONG_OPTIONS: dict[str, tuple[list[str], str]] = {
    "preset": (["--preset", "huge"], "there is no preset 'huge'"),
    "device": (["--device", "abacus"], "no device 'abacus'"),
    "dtype": (["--dtype", "float3"], "no number format 'float3'"),
    "two limits": (["--minutes", "1"], "pass one of them"),
    "vocabulary": (["--vocab-size", "100000"], "ask for"),
    "tiny vocabulary": (["--vocab-size", "100"], "ask for 259 or more"),
    "batch": (["--batch-tokens", "16"], "less than one row"),
    "rate": (["--lr", "-1"], "above 0"),
    "seed": (["--seed", "-1"], "seed is -1"),
    "huge seed": (["--seed", str(2**64)], f"seed is {2**64}"),
    "foreign device": (["--device", "meta"], "no device 'meta'"),
    "another run's model": (["--from", "elsewhere"], "makes no use of --from"),
    "pairs": (["--pairs", "elsewhere"], "makes no use of --pairs"),
    "steps": (["--steps", "0"], "cannot end a training"),
}


@pytest.mark.parametrize("kind", WRONG_OPTIONS)
def test_an_impossible_option_is_one_clear_line(pretrain: Door, tmp_path: Path, complaint: Said, kind: str) -> None:
    options, words = WRONG_OPTIONS[kind]
    assert pretrain(tmp_path / "run", *options) == 2
    said = complaint()
    assert said.startswith("LLM-BPE: ")
    assert words in said


def test_finetuning_needs_a_pretrained_run_and_says_so(finetune: Door, tmp_path: Path, complaint: Said) -> None:
    assert finetune(tmp_path / "run") == 2
    assert "python LLM-BPE.py --stage pretrain" in complaint()


def test_finetuning_from_another_run_brings_its_tokenizer(pretrain: Door, finetune: Door, tmp_path: Path) -> None:
    pretrain(tmp_path / "old")
    assert finetune(tmp_path / "new", "--from", tmp_path / "old") == 0
    assert (tmp_path / "new" / "tokenizer.json").read_bytes() == (tmp_path / "old" / "tokenizer.json").read_bytes()


def test_a_tokenizer_that_is_not_the_runs_own_is_refused(pretrain: Door, tmp_path: Path, complaint: Said) -> None:
    run = tmp_path / "run"
    pretrain(run)
    (run / "tokenizer.json").write_text("{}")
    assert pretrain(run, "--steps", 9) == 2
    assert "tokenizer.json was changed" in complaint()


@pytest.mark.parametrize("stage, ways", [("pretrain", ("--texts", "sample")), ("finetune", ("--pairs", "sample"))])
def test_without_a_network_the_two_ways_on_are_named(
    llm_bpe: Door,
    pretrain: Door,
    tmp_path: Path,
    quick: list[str],
    complaint: Said,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    ways: tuple[str, str],
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror("name resolution is off")

    run = tmp_path / "run"
    if stage == "finetune":
        pretrain(run)
    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    assert llm_bpe("--stage", stage, "--run", run, "--downloads", tmp_path / "downloads", *quick, "--steps", 1) == 2
    said = complaint()
    assert all(way in said for way in ways), said


def test_a_run_that_another_process_trains_is_left_alone(pretrain: Door, tmp_path: Path, complaint: Said) -> None:
    with RunFolder(tmp_path / "run").locked():
        assert pretrain(tmp_path / "run") == 2
    assert "another process is training in" in complaint()


def test_help_and_readme_name_every_kind_of_file_that_is_read(
    llm_bpe: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        llm_bpe("--help")
    kinds = set(documents._ENDINGS)
    said = re.search(r"folders, (.*?) of\s+books", capsys.readouterr().out, re.DOTALL)
    assert said and set(re.split(r",\s+", said[1])) == kinds
    readme = re.search(r"`--texts` takes folders, (.*?): a file", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert readme and set(re.findall(r"`(.*?)`", readme[1])) == kinds


def test_help_names_every_preset_and_data_set(llm_bpe: Door, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        llm_bpe("--help")
    said = " ".join(capsys.readouterr().out.split())
    assert [name for name in (*PRESETS, *TEXTS, *PAIRS) if name not in said] == []


def test_a_command_line_that_cannot_be_read_is_one_clear_line(llm_bpe: Door, complaint: Said) -> None:
    assert llm_bpe() == 2
    assert complaint() == "LLM-BPE: the following arguments are required: --stage; --help lists the options"


@pytest.mark.parametrize("end", ["--steps", "--tokens", "--minutes"])
@pytest.mark.parametrize("value", ["0", "-3", "nan", "inf"])
def test_what_cannot_end_a_training_is_one_clear_line(
    llm_bpe: Door, tmp_path: Path, complaint: Said, end: str, value: str
) -> None:
    assert llm_bpe("--stage", "pretrain", "--run", tmp_path / "run", "--texts", tmp_path, end, value) == 2
    assert end in complaint()
    assert not (tmp_path / "run").exists()


def test_what_is_missing_for_the_second_stage_is_said_before_the_first(
    llm_bpe: Door, corpus: Path, tmp_path: Path, tiny: list[str], quick: list[str], complaint: Said
) -> None:
    run = tmp_path / "run"
    given = ("--stage", "all", "--run", run, "--texts", corpus / "texts", *tiny, *quick, "--steps", 3)
    for wrong in (("--pairs", corpus / "nowhere"), ("--dataset", "nonsense"), ("--dataset", "gutenberg")):
        assert llm_bpe(*given, *wrong) == 2
        assert str(wrong[1]) in complaint()
        assert not (run / "pretrain").exists()


def test_a_pretrained_model_that_moved_on_is_said_to_have_and_all_stages_finetune_it_anew(
    llm_bpe: Door, pretrain: Door, finetune: Door, corpus: Path, tmp_path: Path, quick: list[str], capfd: Any
) -> None:
    run = tmp_path / "run"
    pretrain(run)
    finetune(run)
    capfd.readouterr()
    assert finetune(run) == 0
    assert "moved on" not in capfd.readouterr().err
    pretrain(run, "--steps", 6)
    assert finetune(run) == 0
    assert "moved on since finetuning began; --restart begins from it" in capfd.readouterr().err
    assert llm_bpe("--stage", "all", "--run", run, "--steps", 6) == 0
    said = capfd.readouterr().err
    assert "pretrain is finished" in said
    assert "finetuning begins anew from it" in said
    steps = [json.loads(line)["step"] for line in (run / "finetune" / "metrics.jsonl").read_text().splitlines()]
    assert (steps[0], steps[-1]) == (0, 6)
    assert llm_bpe("--stage", "all", "--run", run, "--steps", 6) == 0
    assert "moved on" not in capfd.readouterr().err


def test_fewer_steps_than_were_taken_change_nothing(llm_bpe: Door, pretrain: Door, tmp_path: Path, capfd: Any) -> None:
    run = tmp_path / "run"
    pretrain(run)
    record = (run / "run.json").read_bytes()
    for less in (("--steps", 3), ("--minutes", 0.0001)):
        assert llm_bpe("--stage", "pretrain", "--run", run, *less) == 0
    assert capfd.readouterr().err.count("is finished") == 2
    assert (run / "run.json").read_bytes() == record


def test_the_next_command_can_be_typed_as_it_stands(
    llm_bpe: Door, tmp_path: Path, tiny: list[str], quick: list[str], complaint: Said
) -> None:
    run = tmp_path / "my run"
    assert llm_bpe("--stage", "pretrain", "--dataset", "sample", "--run", run, *tiny, *quick, "--steps", 1) == 0
    command = shlex.split(complaint().partition("next: python LLM-BPE.py ")[2])
    assert command == ["--stage", "finetune", "--run", str(run), "--dataset", "sample"]
    assert llm_bpe(*command, *quick, "--steps", 1) == 0


def test_all_stages_name_the_next_command_once(
    llm_bpe: Door, tmp_path: Path, tiny: list[str], quick: list[str], capfd: Any
) -> None:
    run = tmp_path / "run"
    assert llm_bpe("--stage", "all", "--dataset", "sample", "--run", run, *tiny, *quick, "--steps", 1) == 0
    said = capfd.readouterr().err
    assert said.count("next: ") == 1
    assert said.endswith(f'next: python LLM-Generate.py "A man in a sinking ship" --run {run}\n')


def test_a_program_that_is_alone_speaks_whatever_number_a_scheduler_gave_it(
    pretrain: Door, tmp_path: Path, complaint: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")
    assert pretrain(tmp_path / "run") == 0
    assert complaint().startswith("next: ")


def test_finetuning_keeps_the_pretrained_shape_and_says_so(
    pretrain: Door, finetune: Door, tmp_path: Path, complaint: Said
) -> None:
    run = tmp_path / "run"
    pretrain(run)
    assert finetune(run, "--preset", "story", "--width", 128) == 2
    assert re.search(r"which finetuning keeps: preset nano \(asked: story\); width 64 \(asked: 128\)", complaint())
    assert not (run / "finetune").exists()
    assert finetune(run, "--preset", "nano", "--width", 64) == 0
    assert finetune(run, "--preset", "nano", "--steps", 4) == 0
    assert finetune(run, "--preset", "micro", "--steps", 5) == 2
    assert "preset nano (asked: micro)" in complaint()


def test_finetuning_from_what_is_not_there_says_what_is_needed(
    pretrain: Door, finetune: Door, tmp_path: Path, complaint: Said
) -> None:
    run = tmp_path / "run"
    pretrain(run)
    assert finetune(run, "--from", tmp_path / "nowhere") == 2
    assert f"{tmp_path / 'nowhere'} has no pretrained model to finetune" in complaint()
    pretrain(tmp_path / "other")
    assert finetune(tmp_path / "new", "--from", run) == 0
    assert finetune(tmp_path / "new", "--from", tmp_path / "other", "--steps", 4) == 2
    assert f"from {run} (asked: {tmp_path / 'other'})" in complaint()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_finetuning_refuses_a_pretrained_model_that_was_changed(
    pretrain: Door, finetune: Door, tmp_path: Path, complaint: Said, name: str
) -> None:
    run = tmp_path / "run"
    pretrain(run)
    file = run / "pretrain" / name
    file.write_bytes(file.read_bytes()[:-100])
    assert finetune(run) == 2
    assert f"{file} was changed" in complaint()


def test_finetuning_refuses_a_model_of_another_tokenizer_with_both_fingerprints(
    pretrain: Door, finetune: Door, corpus: Path, tmp_path: Path, complaint: Said
) -> None:
    pretrain(tmp_path / "one")
    for file in (corpus / "texts").iterdir():
        file.write_text(file.read_text().replace("the", "that"))
    pretrain(tmp_path / "other")
    assert finetune(tmp_path / "one", "--from", tmp_path / "other") == 2
    said = complaint()
    for run in ("one", "other"):
        assert Tokenizer.load(tmp_path / run / "tokenizer.json").fingerprint in said
    assert finetune(tmp_path / "one") == 0


def test_a_run_that_cannot_be_made_is_one_clear_line(
    pretrain: Door, tmp_path: Path, complaint: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert pretrain(tmp_path / "run") == 2
    assert complaint() == (
        f"LLM-BPE: cannot write to {tmp_path / 'run'}: Permission denied; choose another folder with --run"
    )


@pytest.mark.parametrize("in_the_way", ["run", "run/pretrain", "run/tokens", "run/tokenizer.json/x", "run/run.json/x"])
def test_what_is_in_the_way_of_a_run_is_named(pretrain: Door, tmp_path: Path, complaint: Said, in_the_way: str) -> None:
    (tmp_path / in_the_way).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / in_the_way).write_text("in the way")
    assert pretrain(tmp_path / "run") == 2
    said = complaint()
    assert said.startswith("LLM-BPE: ")
    assert str(tmp_path / "run") in said


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 9 GiB.\nMore.")])
def test_a_model_too_large_for_the_device_is_one_clear_line(
    pretrain: Door, tmp_path: Path, complaint: Said, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("model.beginning.build", refuse)
    assert pretrain(tmp_path / "run") == 2
    assert complaint().startswith("LLM-BPE: cpu has no memory for this; pass a smaller")
