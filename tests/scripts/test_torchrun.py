"""Several processes started by torchrun train the model that one process trains, and end together."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.report import read_metrics

ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--")
SMALL = "--dataset sample --preset nano --layers 1 --width 64 --vocab-size 400 --context 64 --eval-every 5"
SAME = "--batch-tokens 448 --device cpu --dtype float32"  # seven rows: shares of three and four
STEPS = 5


def started(run: Path, stage: str, *options: object) -> "subprocess.Popen[str]":
    """LLM-BPE.py in two processes."""
    command = [*TORCHRUN, "LLM-BPE.py", "--stage", stage, "--run", str(run), *map(str, options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def figures(run: Path, stage: str) -> list[tuple[int, str, float]]:
    """Losses and held-out figures of a run, in the order they were noted."""
    named = ("loss", "latest", "averaged")
    entries = read_metrics(run / stage / "metrics.jsonl")
    return [(entry["step"], name, entry[name]) for entry in entries for name in named if name in entry]


@pytest.mark.slow
def test_two_processes_train_what_one_trains_save_once_and_go_on(llm_bpe: Callable[..., int], tmp_path: Path) -> None:
    """Both stages; finetuning scores stories only, so shares of a step differ in what counts."""
    one, two = tmp_path / "one", tmp_path / "two"
    for steps in (STEPS, 2 * STEPS):
        process = started(two, "all", *SMALL.split(), *SAME.split(), "--steps", steps)
        out, said = process.communicate()
        assert (process.returncode, out) == (0, ""), said
        assert len(re.findall(r"^saved in", said, re.MULTILINE)) == 2
        assert llm_bpe("--stage", "all", "--run", one, *SMALL.split(), *SAME.split(), "--steps", steps) == 0
    assert said.count(f"pretrain goes on from step {STEPS}") == said.count("finetuning begins anew") == 1
    for stage in ("pretrain", "finetune"):
        expected, found = figures(one, stage), figures(two, stage)
        assert [entry[:2] for entry in found] == [entry[:2] for entry in expected]
        assert [entry[2] for entry in found] == pytest.approx([entry[2] for entry in expected], rel=1e-4)
        assert len(found) == 1 + 1 + 2 * 2  # the loss of step 10; one score at step 0, two at 5 and 10
        names = {path.name for path in (two / stage).iterdir()}
        assert names == {path.name for path in (one / stage).iterdir()}


def children_of(pid: int) -> list[int]:
    """The processes it started, in that order."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True)
    return sorted(map(int, found.stdout.split()))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals and pgrep are POSIX's")
@pytest.mark.parametrize("end", ["ctrl-c", "killed"])
def test_what_ends_one_process_ends_all(tmp_path: Path, end: str) -> None:
    with started(tmp_path / "run", "pretrain", *SMALL.split(), *SAME.split(), "--steps", 100_000) as process:
        try:
            said = end_it(process, end)
        finally:
            process.kill()
    saved = re.findall(r"^stopped at step (\d+) and saved", said, re.MULTILINE)
    assert len(saved) == (1 if end == "ctrl-c" else 0), said
    state = torch.load(tmp_path / "run" / "pretrain" / "resume.pt", weights_only=True)
    assert state["step"] == (int(saved[0]) if saved else 0)


def end_it(process: "subprocess.Popen[str]", end: str) -> str:
    """End a training that has come to step 5, see all its processes end, and return what it said from then on."""
    assert process.stderr is not None
    assert any(line.startswith("step 5 ") for line in process.stderr)
    workers = children_of(process.pid)
    assert len(workers) == 2
    if end == "ctrl-c":
        process.send_signal(signal.SIGINT)
    else:
        os.kill(workers[1], signal.SIGKILL)
    _, said = process.communicate(timeout=300)
    assert process.returncode != 0
    assert not any(alive(worker) for worker in workers)
    return said
