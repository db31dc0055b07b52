"""The doors of the project, called as functions, and a corpus small enough to train on in a second."""

import logging
import random
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
WORDS = [
    "the",
    "a",
    "sea",
    "ship",
    "man",
    "woman",
    "house",
    "river",
    "bird",
    "said",
    "went",
    "saw",
    "and",
    "but",
    "of",
    "in",
    "to",
    "was",
    "with",
    "night",
    "light",
    "old",
]


@pytest.fixture(autouse=True)
def quiet_machine() -> Iterator[None]:
    """One thread, and no logging set up by an earlier test."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    yield
    root.handlers = handlers
    torch.set_num_threads(threads)


@pytest.fixture
def llm_bpe() -> Callable[..., int]:
    """LLM-BPE.py's main; each argument may be a path."""
    main = runpy.run_path(str(ROOT / "LLM-BPE.py"))["main"]
    return lambda *arguments: main([str(argument) for argument in arguments])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with `texts`, thirty files of random sentences, and `pairs`, as many pairs."""
    chance = random.Random(1)

    def sentences(count: int) -> str:
        return " ".join(" ".join(chance.choices(WORDS, k=9)).capitalize() + "." for _ in range(count))

    folder = tmp_path / "corpus"
    (folder / "texts").mkdir(parents=True)
    (folder / "pairs").mkdir()
    for i in range(30):
        (folder / "texts" / f"{i}.txt").write_text(f"{sentences(20)}\n\n{sentences(20)}\n")
    for split, count in (("train", 25), ("valid", 5)):
        (folder / "pairs" / f"{split}.wp_source").write_text("".join(f"[ WP ] {sentences(1)}\n" for _ in range(count)))
        (folder / "pairs" / f"{split}.wp_target").write_text("".join(f"{sentences(25)}\n" for _ in range(count)))
    return folder
