"""What the processes of a group train on is the same in all of them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.batches import Batch
from data.copying import CopyingBatches
from model import following, plan, stages
from model.copying import EXERCISED_FROM, EXERCISES
from model.following import Task, follow
from model.plan import GPU_BATCH_TOKENS
from model.request import Request, train_config

TEXTS = {
    "train": "The keeper lit the lamp and went down to the boats again, for the night was long.\n\n",
    "valid": "Nobody in the village had ever seen so many geese on the green at one time.\n\n",
}


class Prepared(Exception):
    """The training would begin now."""


def test_all_processes_have_the_exercises_the_text_and_the_held_out_text_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in TEXTS.items():
        (tmp_path / f"{name}.txt").write_text("".join(f"{number} {text}" for number in range(300)))
    tasks: list[Any] = []
    trained: list[tuple[Any, Any]] = []

    def begin(run: object, lessons: object, held_out: object, *rest: object) -> bool:
        trained.append((lessons, held_out))
        raise Prepared

    monkeypatch.setattr(plan, "train_config", lambda *asked: train_config(*asked, batch_tokens=GPU_BATCH_TOKENS))
    monkeypatch.setattr(stages, "of_first", tasks.append)
    monkeypatch.setattr(stages, "train", begin)
    monkeypatch.setattr(following, "of_first", lambda _: tasks[-1])
    monkeypatch.setattr(following, "train", begin)
    texts = tmp_path / "train.txt", tmp_path / "valid.txt"
    request = Request(run=tmp_path / "run", texts=texts, preset="nano", vocab_size=300, steps=EXERCISED_FROM)
    with pytest.raises(Prepared):
        stages.run_stages("pretrain", request)
    assert isinstance(tasks[-1], Task)
    with pytest.raises(Prepared):
        follow("pretrain", tmp_path / "run", torch.device("cpu"))
    (first, first_held_out), (other, other_held_out) = trained
    assert isinstance(first, CopyingBatches)
    assert first.text.rows < GPU_BATCH_TOKENS // first.text.context  # a small text is read in smaller steps
    for step in (0, EXERCISES - 1, EXERCISES, EXERCISES + 7, EXERCISED_FROM - 1):
        assert_same(first.of_step(step), other.of_step(step))
    for pair in zip(first_held_out.batches(), other_held_out.batches(), strict=True):
        assert_same(*pair)


def assert_same(one: Batch, other: Batch) -> None:
    for field in dataclasses.fields(Batch):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name))
