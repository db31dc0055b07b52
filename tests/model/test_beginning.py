"""What a stage starts from."""

import time
from pathlib import Path

import pytest
import torch

from bpe import Tokenizer
from data.layout import SPECIAL_TOKENS
from model import beginning
from model.beginning import begin_pretraining, keep_tokenizer
from model.plan import Plan, make_plan
from model.request import Request
from model.run import RunFolder

TEXT = "The ship sank, and the man swam to the shore.\n\n"


def test_the_model_is_planned_with_the_vocabulary_that_the_run_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train", "valid"):
        (tmp_path / f"{name}.txt").write_text(TEXT * 9, encoding="utf-8")
    folder = RunFolder(tmp_path / "run")
    tok = Tokenizer.train([TEXT * 2], vocab_size=270, special_tokens=SPECIAL_TOKENS)
    planned: list[Plan] = []

    def plan(*given: object, **options: object) -> Plan:
        planned.append(make_plan(*given, **options))  # type: ignore[arg-type]
        return planned[-1]

    monkeypatch.setattr(beginning, "make_plan", plan)
    request = Request(texts=(tmp_path / "train.txt", tmp_path / "valid.txt"), preset="nano", steps=2)
    with folder.locked():
        keep_tokenizer(folder, tok, "texts")
        begun = begin_pretraining(folder, request, torch.device("cpu"), time.monotonic())
    assert begun.tokenizer.fingerprint == tok.fingerprint
    assert [made.settings.shape.vocab_size for made in planned] == [270]
