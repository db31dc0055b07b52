"""Speed is counted over the arithmetic it needs, and measured in processes that know nothing of each other."""

import json

import pytest
import torch

from benchmarks import throughput
from benchmarks.throughput import Figures, main, median_of, peak_memory
from model.config import preset

CPU = torch.device("cpu")


def figures(**changes: float) -> Figures:
    known = {"tokens_per_second": 1.0, "share_of_matrix_rate": 0.5, "matrix_gflops": 100.0, "peak_memory_mb": 10.0}
    return Figures(preset="nano", parameters=5, dtype="float32", **(known | changes))


def test_the_median_is_taken_figure_by_figure() -> None:
    rounds = [figures(tokens_per_second=speed, peak_memory_mb=9 - speed) for speed in (3, 1, 2)]
    assert median_of(rounds) == figures(tokens_per_second=2, peak_memory_mb=7)


def test_the_ceiling_is_that_of_the_best_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {1024: 3.0, 2048: 5.0, 4096: 4.0}
    monkeypatch.setattr(throughput, "rate_of_size", lambda size, *_: rates[size])
    assert throughput.matrix_rate(CPU, torch.float32) == 5.0


def test_peak_memory_remembers_what_was_given_back() -> None:
    before = peak_memory(CPU)
    if not before:
        pytest.skip("this system does not say")
    size = before // 4 + 100_000_000
    torch.ones(size, dtype=torch.uint8)
    assert peak_memory(CPU) >= size


def test_an_unknown_preset_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--presets", "huge"]) == 2
    assert "there is no preset 'huge'" in capsys.readouterr().err


@pytest.mark.slow
def test_figures_belong_together(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "ROUNDS", 1)
    assert main(["--presets", "nano", "--json"]) == 0
    (one,) = [Figures(**each) for each in json.loads(capfd.readouterr().out)]
    needed = one.tokens_per_second * preset("nano").operations_per_token
    assert one.share_of_matrix_rate == pytest.approx(needed / (one.matrix_gflops * 1e9), abs=0.001)
    assert 0 < one.share_of_matrix_rate < 1
    assert one.parameters == preset("nano").num_parameters
