"""The doors of the project, called as functions, and a corpus small enough to train on in a second."""

import logging
import random
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bpe import Tokenizer
from data.layout import SPECIAL_TOKENS
from model.build import build
from model.config import ModelConfig
from model.folder import save_folder
from model.run import RunFolder

ROOT = Path(__file__).parents[2]
TEXT = "the ship sank and the man swam to the shore, where the woman held the child; naïve snow ☃ fell — the end. " * 3
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
def nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than all that is trained here; tests/model/test_compiling.py is about it."""
    monkeypatch.setattr("model.compiling.can_compile", lambda _: False)


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
def tiny() -> list[str]:
    """Options for a model that trains in a blink."""
    return ["--preset", "nano", "--layers", "1", "--width", "64", "--context", "32", "--vocab-size", "300"]


@pytest.fixture
def quick() -> list[str]:
    """Options for steps that take a blink, of the same bits on every machine."""
    return ["--batch-tokens", "64", "--device", "cpu", "--dtype", "float32"]


@pytest.fixture
def pretrain(llm_bpe: Callable[..., int], corpus: Path, tiny: list[str], quick: list[str]) -> Callable[..., int]:
    """A function from a run's folder, and more options, to the status of pretraining a tiny model there."""
    given = ("--stage", "pretrain", "--texts", corpus / "texts", *tiny, *quick, "--steps", 4)
    return lambda run, *more: llm_bpe(*given, "--run", run, *more)


@pytest.fixture
def finetune(llm_bpe: Callable[..., int], corpus: Path, quick: list[str]) -> Callable[..., int]:
    """The same for finetuning."""
    given = ("--stage", "finetune", "--pairs", corpus / "pairs", *quick, "--steps", 3)
    return lambda run, *more: llm_bpe(*given, "--run", run, *more)


@pytest.fixture
def weights() -> Callable[[Path], dict[str, torch.Tensor]]:
    """A function from a stage's folder to the weights in it."""
    return lambda folder: load_file(folder / "model.safetensors")


@pytest.fixture
def same_weights(weights: Callable[[Path], dict[str, torch.Tensor]]) -> Callable[[Path, Path], bool]:
    """A function that tells whether two stages' folders hold the same weights, bit by bit."""

    def same(folder: Path, other: Path) -> bool:
        left, right = weights(folder), weights(other)
        return left.keys() == right.keys() and all(tensor.equal(right[name]) for name, tensor in left.items())

    return same


@pytest.fixture(scope="session")
def train_nothing() -> Callable[..., Path]:
    """A function from a run's folder to a run whose stage holds random weights and a small tokenizer, with hashes."""

    def make(run: Path, stage: str = "finetune", seed: int = 0) -> Path:
        tok = Tokenizer.train([TEXT], vocab_size=300 + seed, special_tokens=SPECIAL_TOKENS)
        torch.manual_seed(seed)
        sizes = {"layers": 1, "width": 64, "heads": 2, "kv_heads": 1, "hidden": 64, "head_size": 32, "context": 32}
        model = build(ModelConfig(vocab_size=tok.vocab_size, **sizes))
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.1)
        folder = RunFolder(run)
        with folder.writing(run / stage):
            save_folder(run / stage, model.state_dict(), model.config, tok, stage=stage)
        return run

    return make


@pytest.fixture(scope="session")
def trained(train_nothing: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a run, which no test writes to."""
    return train_nothing(tmp_path_factory.mktemp("runs") / "story")


@pytest.fixture
def complaint(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """A function that returns what was said on stderr last; nothing may be on stdout."""

    def last_line() -> str:
        out, err = capfd.readouterr()
        assert out == ""
        assert "Traceback" not in err
        return err.strip().splitlines()[-1]

    return last_line


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
