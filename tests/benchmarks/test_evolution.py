"""The tables of evolution: each row trained with its own design, once, and shown with the spread over the seeds."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import evolution
from benchmarks.evolution import CHANGES, ROWS, Bench, Result, Training, config_of, main, optimizer_of, table
from benchmarks.ladder import Ladder, shape_after
from benchmarks.training import commit
from data.sources import text_source
from model.config import preset
from model.muon import Muon
from model.optimizer import Optimizer, learning_rate_multiplier
from model.plan import FORGETTING_EPOCHS
from model.settings import STAGES, TrainConfig
from model.train import Run, Scores

TEXT = "The ship sank, and the man swam to the shore, where the woman held the child.\n\nThe sea fell.\n\n"
SHAPE = preset("nano", layers=1, context=32, vocab_size=280)


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setattr(evolution, "SHAPE", SHAPE)
    monkeypatch.setattr(evolution, "SEED_VOCABULARY", 290)
    monkeypatch.setattr(evolution, "LITTLE", 2_000)
    monkeypatch.setattr(evolution, "STAGES", {"pretrain": replace(STAGES["pretrain"], batch_tokens=64)})
    for name, count in (("train", 99), ("valid", 9)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} {i} {TEXT}" for i in range(count)), encoding="utf-8")
    return tmp_path / "train.txt", tmp_path / "valid.txt"


@pytest.mark.slow
def test_every_row_is_trained_once_and_shown(
    texts: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    decays = []

    def noted(model: torch.nn.Module, config: TrainConfig, changes: frozenset[str]) -> Optimizer:
        decays.append(config.weight_decay)
        return optimizer_of(model, config, changes)

    monkeypatch.setattr(evolution, "optimizer_of", noted)
    rows = ("seed", "schedule", "last", "kept", "forgetting")
    given = ["--texts", *map(str, texts), "--minutes", "0.003", "--seeds", "1", "--out", str(tmp_path / "out")]
    assert main([*given, "--rows", *rows]) == 0
    usual = STAGES["pretrain"].weight_decay
    assert decays[:3] == [usual] * 3
    assert decays[3] > 2 * usual
    shown = capfd.readouterr().out
    shown_rows = [line for line in shown.splitlines() if line.startswith("| ") and "bits" not in line]
    assert [line.split(" |")[0][2:] for line in shown_rows] == [ROWS[row][0] for row in rows]
    assert shown.splitlines().count(f"measured at: {commit()}") == 2
    results = sorted((tmp_path / "out").rglob("*-seed0.json"))
    assert [path.name for path in results] == [
        f"{name}-seed0.json"
        for name in ("all-schedule", "all-seed", f"little-schedule-forgetting{FORGETTING_EPOCHS}", "little-schedule")
    ]
    before = [path.stat().st_mtime_ns for path in results]
    assert main([*given, "--rows", *rows, "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert [path.stat().st_mtime_ns for path in results] == before
    assert said["little-schedule"][0]["epochs"] > said["all-schedule"][0]["epochs"]
    assert all(each[0]["averaged"] > 0 and each[0]["last"] < 9 for each in said.values())


def test_a_result_tells_the_last_the_best_and_the_averaged_weights_apart(
    texts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(run: Run, *rest: Any) -> None:
        report = rest[-1]
        for latest, averaged in ((3.0, 2.9), (2.0, 2.4), (2.6, 1.8), (2.5, 1.9)):
            report.evaluated(run, Scores(latest=latest, averaged=averaged))

    monkeypatch.setattr(evolution, "train", trained)
    bench = Bench(text_source(texts, None, tmp_path), tmp_path, 1.0)
    training = Training(rung="schedule", little=True)
    bench.measure(training, 0)
    result = bench.result(training, 0)
    assert result is not None
    assert (result.last, result.kept, result.averaged) == (2.5, 2.0, 1.8)


def test_the_table_shows_median_spread_and_gain(texts: tuple[Path, Path], tmp_path: Path) -> None:
    bench = Bench(text_source(texts, None, tmp_path), tmp_path, 1.0)
    for rung, values in (("seed", (2.0, 2.5, 2.1)), ("tokenizer", (1.9, 1.7, 1.8))):
        for seed, value in enumerate(values):
            result = Result(steps=5, parameters=1000, epochs=0.5, last=value, kept=value, averaged=value, commit="abc")
            path = bench.path(Training(rung=rung), seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result.__dict__), encoding="utf-8")
    first, second, _, commits = table(bench, list(CHANGES), range(3)).splitlines()[2:]
    assert commits == "measured at: abc"
    assert first.split(" | ")[1:] == ["2.100", "2.000 - 2.500", "", "5", "0.50", "1,000 |"]
    assert second.split(" | ")[1:] == ["1.800", "1.700 - 1.900", "-0.300", "5", "0.50", "1,000 |"]


def test_each_rung_has_the_changes_of_those_below_it() -> None:
    rungs = [Training(rung=name).changes for name in CHANGES]
    assert all(low < high and len(high) == len(low) + 1 for low, high in pairwise(rungs))
    assert {row[1].rung for row in ROWS.values()} == set(CHANGES)


def test_optimizers_and_schedules_are_those_of_their_rungs() -> None:
    kinds = {}
    for rung in CHANGES:
        training = Training(rung=rung)
        model = Ladder(shape_after(training.changes, SHAPE), training.changes)
        kinds[rung] = [type(part) for part in optimizer_of(model, config_of(training, 0), training.changes).parts]
    assert kinds["tying"] == [torch.optim.Adam]
    assert kinds["adamw"] == [torch.optim.AdamW]
    assert kinds["muon"] == kinds["schedule"] == [torch.optim.AdamW, Muon]
    constant, falling = (config_of(Training(rung=rung), 0) for rung in ("muon", "schedule"))
    assert [learning_rate_multiplier(step, step / 10, constant) for step in (0, 5, 9)] == [1, 1, 1]
    assert learning_rate_multiplier(90, 0.9, falling) < 0.3
