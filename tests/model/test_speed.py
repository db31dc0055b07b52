"""Laws of measuring speed: real steps of that shape, and nothing else is disturbed."""

from types import SimpleNamespace

import pytest
import torch

from model import speed
from model.build import build
from model.config import preset
from model.settings import STAGES
from model.train import Run

CPU = torch.device("cpu")
SHAPE = preset("nano", layers=1, width=64, context=16, vocab_size=300)


def test_the_speed_is_measured_on_real_steps_and_no_random_number_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    steps = []
    take_step = speed.take_step

    def counted(run: Run, *arguments: object) -> float:
        steps.append(run.model.config)
        return take_step(run, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(speed, "take_step", counted)
    before = torch.get_rng_state()
    assert speed.tokens_per_second(SHAPE, STAGES["pretrain"], CPU, torch.float32) > 0
    assert torch.equal(torch.get_rng_state(), before)
    assert steps == [SHAPE] * (speed.FIRST_STEPS + speed.MEASURED_STEPS)
    torch.set_num_threads(threads)


def test_what_takes_too_long_is_measured_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**6, 10))  # every look at it ten seconds later
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    measured = speed.tokens_per_second(SHAPE, STAGES["pretrain"], CPU, torch.float32, most_seconds=5)
    assert measured == STAGES["pretrain"].batch_tokens / 10
    assert next(clock) == 20


@pytest.mark.parametrize("packed", [False, True])
def test_a_batch_of_random_tokens_is_scored_whole(packed: bool) -> None:
    batch = speed.random_batch(3, SHAPE, packed=packed)
    assert (batch.segments is not None) == packed
    if batch.segments is not None:
        assert batch.segments.tolist() == [[0] * 8 + [1] * 8] * 3
    assert batch.inputs.shape == batch.targets.shape == (3, SHAPE.context)
    assert batch.scored.all()
    assert (batch.inputs[:, 1:] == batch.targets[:, :-1]).all()
    assert build(SHAPE)(torch.from_numpy(batch.inputs)).isfinite().all()
