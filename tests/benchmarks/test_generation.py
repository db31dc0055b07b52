"""The benchmark of writing: one model for all, every weight counted, figures that follow from what was timed."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import benchmarks.generation as generation
from benchmarks.generation import Disagreement, bytes_of_weights, main, measure, table
from benchmarks.generation_tasks import OURS, UNCACHED, WORK, Task, difference, prompt_ids
from benchmarks.random_run import random_model, random_prompt, random_tokenizer, save_random_run
from model import load
from model.config import ModelConfig

SHAPE = ModelConfig(vocab_size=300, layers=1, width=64, heads=2, kv_heads=1, hidden=128, head_size=32, context=64)
MATRICES = 64 * (64 + 32 + 32 + 64 + 3 * 128)  # of the block
EMBEDDING = 300 * 64
NORMS = 3 * 64 + 2 * 32


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """What to do with a small run of random weights."""
    folder = save_random_run(SHAPE, tmp_path / "run")
    prompt = random_prompt(random_tokenizer(SHAPE.vocab_size), 15)
    return Task(work="", folder=str(folder), prompt=prompt, tokens=0, threads=torch.get_num_threads())


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Let tasks be done here, on little memory; a list of them."""
    tasks: list[Task] = []

    def done(task: Task, **changes: Any) -> Any:
        tasks.append(replace(task, **changes))
        return json.loads(json.dumps(WORK[tasks[-1].work](tasks[-1])))

    monkeypatch.setattr(generation, "done", done)
    monkeypatch.setattr("benchmarks.generation_tasks.BUFFER", 1 << 16)
    monkeypatch.setitem(WORK, "start", lambda task: {"first token": 1.0})
    return tasks


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("float32", 4 * (MATRICES + EMBEDDING + NORMS)),
        ("float16", 2 * (MATRICES + EMBEDDING + NORMS)),
        ("int8", MATRICES + EMBEDDING + 2 * (64 + 32 + 32 + 64 + 128 + 128 + 64 + 300)),
        ("int4", MATRICES // 2 + 4 * MATRICES // 64 + EMBEDDING + 2 * 300),
    ],
)
def test_every_weight_is_counted_once_with_its_scale(kind, size):
    assert bytes_of_weights(SHAPE)[f"ours {kind}"] == size


def test_a_random_run_is_a_run_whose_special_tokens_never_lead_and_has_a_prompt_of_16_tokens(task):
    assert len(prompt_ids(task)) == 16
    model, tok = load(Path(task.folder).parent, device="cpu")
    with torch.inference_mode():
        logits = model(torch.tensor([prompt_ids(task)]))
    assert not set(logits.argmax(-1).flatten().tolist()) & set(tok.special_tokens.values())
    assert logits.std() > 0.1  # nothing is zero by itself, as a new model's blocks are
    again = random_model(SHAPE, tok).state_dict()
    assert all(torch.equal(again[name], weights) for name, weights in model.state_dict().items())


def a_second_and_one_for_each_token(work: Callable[[], Any]) -> tuple[float, Any]:
    """In place of a clock, by which a few tokens of a small model can take less than the first."""
    result = work()
    return 1.0 + (result if isinstance(result, int) else 0), result


def test_figures_follow_from_what_was_measured(in_this_process, monkeypatch):
    monkeypatch.setattr(generation, "PEERS", {})
    monkeypatch.setattr("benchmarks.generation_tasks.seconds_of", a_second_and_one_for_each_token)
    figures = measure(SHAPE, 4, 2)
    assert list(figures["rows"])[:6] == [*(f"ours {kind}" for kind in OURS), UNCACHED]
    for name, row in figures["rows"].items():
        assert row["first_ms"] > 0 < row["of_bound"], name
    one, eight = (figures["rows"][f"ours int8, sampled{more}"] for more in ("", ", 8 at once"))
    assert one["megabytes_per_token"] == 8 * eight["megabytes_per_token"]
    assert figures["times"].keys() == {
        f"ours float32 / {UNCACHED}",
        *(f"ours {kind}, sampled, 8 at once / ours {kind}, sampled" for kind in OURS),
    }
    assert [task.way for task in in_this_process].count(UNCACHED) == 1  # the others in both rounds
    assert [task.way for task in in_this_process].count("ours int8") == 6
    lines = "".join(table(figures))
    assert all(f"\n{name} " in lines for name in figures["rows"])


def test_a_rate_counts_the_tokens_after_the_first_of_every_story(task, monkeypatch):
    wrote = []
    monkeypatch.setitem(generation.WAYS, "ours int8", lambda task: lambda tokens: wrote.append(tokens) or 8 * tokens)
    monkeypatch.setattr("benchmarks.generation_tasks.seconds_of", lambda work: (1 + work() / 10, 8 * wrote[-1]))
    measured = WORK["write"](replace(task, way="ours int8", stories=8, tokens=50))
    assert measured == {"first": 1.8, "rate": pytest.approx(10)}
    assert wrote[0] > 1  # what is not counted


def test_a_peer_with_another_model_stops_the_benchmark(task, in_this_process, monkeypatch):
    def others(task: Task, ids: list[int]) -> Any:
        with torch.inference_mode():
            return load(task.folder, "cpu", "float32")[0](torch.tensor([ids]))[0].numpy() + np.float32(0.01)

    monkeypatch.setitem(generation.PEERS, "transformers", ["torch"])
    monkeypatch.delitem(generation.PEERS, "llama.cpp")
    monkeypatch.setitem(difference.__globals__["LOGITS"], "transformers", others)
    with pytest.raises(Disagreement, match=r"transformers are 0\.01 from ours"):
        generation.peers_at_hand(task)


def test_a_peer_that_is_not_installed_is_left_out_and_named(task, monkeypatch, capsys):
    monkeypatch.setattr(generation, "PEERS", {"llama.cpp": ["no_such_package", "torch"]})
    assert generation.peers_at_hand(task) == ({}, {})
    assert "llama.cpp is left out: there is no package no_such_package\n" in capsys.readouterr().err


@pytest.mark.slow  # a process of its own imports torch and transformers
def test_tasks_run_in_processes_of_their_own_and_say_why_they_failed(task):
    assert generation.done(task, work="compare", way="transformers") < 1e-4
    assert generation.done(task, work="write", way="transformers float32", tokens=64)["rate"] > 0
    with pytest.raises(generation.Failed, match="KeyError: 'a quill'"):
        generation.done(task, work="write", way="a quill")


@pytest.mark.slow
@pytest.mark.skipif(
    not (find_spec("llama_cpp") and find_spec("gguf")),
    reason="llama-cpp-python is compiled, and for `make bench` alone",
)
def test_llama_cpp_reads_the_same_model_from_our_gguf(task):
    sizes = generation.done(task, work="gguf")
    assert sizes["F32"] == bytes_of_weights(SHAPE)["ours float32"]
    assert sizes["Q4_0"] < sizes["Q8_0"] < sizes["F16"] < sizes["F32"]
    assert generation.done(task, work="compare", way="llama.cpp") < 1e-4


@pytest.mark.parametrize(
    "arguments",
    [["--tokens", "1"], ["--tokens", "1000", "--preset", "nano"], ["--repeats", "0"], ["--preset", "giant"]],
)
def test_wrong_use_is_one_line(capsys, arguments):
    assert main(arguments) == 2
    assert arguments[1] in capsys.readouterr().err
