"""A training killed at random moments, again and again, ends with the same bits as one never stopped.

LLM_BPE_KILLS says how many times each stage is killed (SIGKILL: nothing can be caught or tidied up).
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("LLM_BPE_KILLS", "4"))
LONGEST = 1.2  # seconds of training before a kill; saves take about half of the time, so kills fall into them too
STEPS = 60 * KILLS
SMALL = "--preset nano --layers 1 --width 64 --context 64 --vocab-size 300"
SAVING = "--save-every 2 --eval-every 20 --device cpu --dtype float32"


def command(stage: str, corpus: Path, run: Path) -> list[str]:
    data = f"--texts {corpus / 'texts'} {SMALL}" if stage == "pretrain" else f"--pairs {corpus / 'pairs'}"
    options = f"--stage {stage} --run {run} --steps {STEPS} --batch-tokens 256 {data} {SAVING}"
    return [sys.executable, "LLM-BPE.py", *options.split()]


def start(stage: str, corpus: Path, run: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command(stage, corpus, run), cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for_training(process: "subprocess.Popen[str]") -> None:
    """Return when the training loop is about to begin, or the process has ended."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("training for"):
            return


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_ends_with_the_same_bits(tmp_path: Path, corpus: Path) -> None:
    chance = random.Random(7)
    for stage in ("pretrain", "finetune"):
        straight = start(stage, corpus, tmp_path / "straight")
        _, complaint = straight.communicate()
        assert straight.returncode == 0, complaint
        for _ in range(KILLS):
            process = start(stage, corpus, tmp_path / "killed")
            wait_for_training(process)
            time.sleep(LONGEST * chance.random())
            ended = process.poll() is not None
            process.kill()
            _, complaint = process.communicate()
            assert not ended, f"it ended before it could be killed (are STEPS too few for this machine?): {complaint}"
        last = start(stage, corpus, tmp_path / "killed")
        _, complaint = last.communicate()
        assert last.returncode == 0, complaint
        assert "goes on from step" in complaint
        assert_same_bits(tmp_path / "straight" / stage, tmp_path / "killed" / stage)


def assert_same_bits(one: Path, other: Path) -> None:
    """Best, latest and averaged weights, tensor by tensor."""
    best = tuple(load_file(folder / "model.safetensors") for folder in (one, other))
    state, other_state = (torch.load(folder / "resume.pt", weights_only=True) for folder in (one, other))
    for left, right in (best, (state["model"], other_state["model"]), (state["average"], other_state["average"])):
        assert left.keys() == right.keys()
        for name, tensor in left.items():
            assert torch.equal(tensor, right[name]), name
