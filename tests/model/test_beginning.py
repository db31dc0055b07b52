"""What a stage starts from."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from bpe import Tokenizer
from data.layout import SPECIAL_TOKENS
from data.sources import PairSource, TextSource
from model import beginning
from model.beginning import begin_finetuning, begin_pretraining, keep_tokenizer, resumed_plan, with_time_to_close
from model.build import build
from model.config import preset
from model.folder import save_folder
from model.minutes import SAVING_SECONDS, SCORING_COST, closing_seconds
from model.plan import Plan, make_plan
from model.request import Request, StageRecord
from model.run import RunFolder
from model.settings import Limit, Stage

TEXT = "The ship sank, and the man swam to the shore.\n\n"
CPU = torch.device("cpu")


@pytest.fixture
def texts(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("train", "valid"):
        (tmp_path / f"{name}.txt").write_text(TEXT * 9, encoding="utf-8")
    return tmp_path / "train.txt", tmp_path / "valid.txt"


def test_the_model_is_planned_with_the_vocabulary_that_the_run_has(
    texts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    tok = Tokenizer.train([TEXT * 2], vocab_size=270, special_tokens=SPECIAL_TOKENS)
    planned: list[Plan] = []

    def plan(*given: object, **options: object) -> Plan:
        planned.append(make_plan(*given, **options))  # type: ignore[arg-type]
        return planned[-1]

    monkeypatch.setattr(beginning, "make_plan", plan)
    request = Request(texts=texts, preset="nano", steps=2)
    with folder.locked():
        keep_tokenizer(folder, tok, "texts")
        begun = begin_pretraining(folder, request, CPU)
    assert begun.tokenizer.fingerprint == tok.fingerprint
    assert [made.settings.shape.vocab_size for made in planned] == [270]


def test_minutes_count_from_when_the_text_is_at_hand(
    texts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_hand, tokenizer_asked = [], []
    text_source, train_tokenizer = beginning.text_source, beginning.train_tokenizer

    def downloaded(*asked: Any) -> TextSource:
        source = text_source(*asked)
        at_hand.append(time.monotonic())
        return source

    def trained(*asked: Any, shrink: bool) -> Tokenizer:
        tokenizer_asked.append(time.monotonic())
        return train_tokenizer(*asked, shrink=shrink)

    monkeypatch.setattr(beginning, "text_source", downloaded)
    monkeypatch.setattr(beginning, "train_tokenizer", trained)
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        begun = begin_pretraining(folder, Request(texts=texts, preset="nano", steps=2), CPU)
    assert at_hand[0] <= begun.started <= tokenizer_asked[0]


def test_minutes_of_finetuning_count_from_when_the_pairs_are_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "valid"):
        (tmp_path / f"{split}.wp_source").write_text("[ WP ] The ship\n", encoding="utf-8")
        (tmp_path / f"{split}.wp_target").write_text(TEXT.strip() * 9 + "\n", encoding="utf-8")
    tok = Tokenizer.train([TEXT * 2], vocab_size=270, special_tokens=SPECIAL_TOKENS)
    config = preset("nano", layers=1, width=64, context=32, vocab_size=270)
    save_folder(tmp_path / "run" / "pretrain", build(config).state_dict(), config, tok, stage="pretrain")
    at_hand, planned = [], []
    pair_source = beginning.pair_source

    def downloaded(*asked: Any) -> PairSource:
        source = pair_source(*asked)
        at_hand.append(time.monotonic())
        return source

    def plan(*given: Any, **options: Any) -> Plan:
        planned.append(time.monotonic())
        return make_plan(*given, **options)

    monkeypatch.setattr(beginning, "pair_source", downloaded)
    monkeypatch.setattr(beginning, "make_plan", plan)
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        begun = begin_finetuning(folder, Request(pairs=tmp_path, steps=2), CPU)
    assert at_hand[0] <= begun.started <= planned[0]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_minutes_after_a_training_of_steps_leave_time_for_the_end(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed_as = []

    def speed(*_: object, packed: bool) -> float:
        packed_as.append(packed)
        return 1000.0

    monkeypatch.setattr(beginning, "tokens_per_second", speed)
    of_steps = make_plan("pretrain", Request(preset="nano", steps=100, device="cpu", dtype="float32"), CPU)
    written = of_steps.to_record() | Request().data_record() | {"state": "finished", "source": "", "tokenizer": ""}
    record = StageRecord.from_record(written)
    settings = record.settings

    def going_on(record: StageRecord, request: Request) -> Plan:
        return with_time_to_close(stage, record, resumed_plan(stage, record, request, tmp_path, CPU), CPU)

    for minutes in (1.0, 10.0):
        plan = going_on(record, Request(minutes=minutes))
        assert plan.limit == Limit(seconds=60 * minutes)
        assert plan.closing_seconds == closing_seconds(settings.config, settings.shape, 1000.0)
        assert plan.closing_seconds > SAVING_SECONDS + settings.config.eval_tokens * SCORING_COST / 1000.0
    assert packed_as == [stage == "finetune"] * 2
    assert going_on(record, Request(steps=200)).closing_seconds == 0.0
    timed = StageRecord.from_record(written | {"limit": Limit(seconds=60.0).to_record(), "closing_seconds": 4.5})
    assert going_on(timed, Request(minutes=2)).closing_seconds == 4.5
    assert len(packed_as) == 2
