"""Our minutes beside others': recipes are what they say they are, all are scored alike, once, and on the same text."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import recipes, training
from benchmarks.recipes import Constant, OneOptimizer, Trained, adamw_only, keep, kept
from benchmarks.training import OURS, Bench, Result, main, table, written_apart
from bpe import Tokenizer
from data.batches import HeldOut
from data.copying import CopyingBatches
from data.documents import read_texts
from data.layout import SPECIAL_TOKENS
from data.tokens import write_token_files
from model import beginning, copying, plan, stages
from model.build import build
from model.config import preset
from model.evaluate import evaluate
from model.optimizer import Optimizer
from model.request import Request, Settings
from model.run import RunFolder
from model.settings import STAGES, Limit

TEXT = "The ship sank, and the man swam to the shore, where the woman held the child.\n\nThe sea fell.\n\n"
SHAPE = preset("nano", layers=1, context=32, vocab_size=280)
CLASSIC = preset("classic", layers=1, width=64, heads=2, context=32, vocab_size=280)


@pytest.fixture
def texts(tmp_path: Path) -> tuple[Path, Path]:
    for name, times in (("train", 99), ("valid", 9)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} {i} {TEXT}" for i in range(times)), encoding="utf-8")
    return tmp_path / "train.txt", tmp_path / "valid.txt"


def trained() -> Trained:
    torch.manual_seed(0)
    tok = Tokenizer.train([TEXT * 2], vocab_size=280, special_tokens=SPECIAL_TOKENS)
    return Trained(model=build(replace(CLASSIC, vocab_size=280)), tokenizer=tok, steps=5, tokens_per_step=64)


@pytest.fixture
def not_trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In the place of every recipe: a model as it began, after two seconds. The rows that were asked for."""
    asked = []

    def train(self: Bench, row: str, minutes: float, seed: int, folder: Path) -> float:
        asked.append(row)
        keep(folder, trained())
        return 2.0

    monkeypatch.setattr(Bench, "train", train)
    return asked


def test_the_whole_held_out_text_is_scored_and_no_training_done_twice(
    texts: tuple[Path, Path], tmp_path: Path, not_trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--minutes", "3", "--seeds", "2", "--rows", "classic", "--out", str(tmp_path / "out"), "--json"]
    assert main(["--texts", *map(str, texts), *asked]) == 0
    (one, other) = json.loads(capsys.readouterr().out)
    it = trained()
    examples = [("valid", document) for document in read_texts([texts[1]])]
    files = write_token_files(examples, it.tokenizer, tmp_path, "x", source="", splits=["valid"])
    score = evaluate(it.model, HeldOut(files["valid"], it.tokenizer, context=32, rows=4), torch.float32)
    assert one["bits_per_byte"] == pytest.approx(score.bits_per_byte, rel=0.01)  # in whatever format is fastest here
    assert one["bytes"] == score.num_bytes == len(texts[1].read_text().strip().encode())
    assert (one["row"], one["minutes"], one["seed"], other["seed"]) == ("classic", 3.0, 0, 1)
    assert (one["steps"], one["tokens_per_second"], one["seconds"]) == (5, 5 * 64 / 2, 2.0)
    assert one["parameters"] == it.model.num_parameters
    assert one["commit"] == training.commit()
    assert main(["--texts", *map(str, texts), *asked]) == 0
    assert json.loads(capsys.readouterr().out) == [one, other]
    assert not_trained == ["classic", "classic"]


def test_rounds_go_over_the_rows_and_other_texts_have_other_results(
    texts: tuple[Path, Path], tmp_path: Path, not_trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "kept", lambda row, folder: kept("classic", folder))
    asked = ["--minutes", "3", "--seeds", "2", "--rows", "classic", OURS, "--out", str(tmp_path / "out")]
    for _ in range(2):
        not_trained.clear()
        assert main(["--texts", *map(str, texts), *asked]) == 0
        assert not_trained == ["classic", OURS, "classic", OURS]
        texts[1].write_text(f"Another. {TEXT}", encoding="utf-8")


def test_the_table_shows_medians_the_spread_and_the_slowest(texts: tuple[Path, Path], tmp_path: Path) -> None:
    bench = Bench(texts, None, tmp_path)
    for seed, bits in enumerate((2.0, 2.5, 2.1)):
        result = Result(
            bits_per_byte=bits,
            bytes=9,
            parameters=1000 + seed // 2,
            steps=5 + seed,
            tokens_per_second=99.6,
            seconds=180 + seed,
            commit="abc" if seed else "abc-dirty",
        )
        path = bench.path(OURS, 3, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result.__dict__), encoding="utf-8")
    row, _, commits = table(bench, list(training.ROWS), 3, range(3)).splitlines()[2:]
    assert row == "| ours | 2.100 | 2.000 - 2.500 | 1,000 or 1,001 | 6 | 100 | 182 |"
    assert commits == "measured at: abc, abc-dirty"


def test_listed_books_are_held_out_and_no_document_is_changed(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    for name in ("One", "Two", "Three"):
        (tmp_path / "books" / f"{name}.txt").write_text(f"{name}\n\n{TEXT}\n* * *\n\n{TEXT}", encoding="utf-8")
    (tmp_path / "list.txt").write_text("Two.txt\n", encoding="utf-8")
    whole = {document.text for document in read_texts([tmp_path / "books"])}
    train, valid = written_apart([tmp_path / "books"], tmp_path / "list.txt", tmp_path / "out")
    assert {document.text for document in read_texts([train, valid])} == whole
    assert [document.text.split()[0] for document in read_texts([valid])] == ["Two"]
    bench = Bench([tmp_path / "books"], tmp_path / "list.txt", tmp_path / "out")
    assert [document.text.split()[0] for split, document in bench.source.examples() if split == "valid"] == ["Two"]


@pytest.mark.slow
def test_what_our_command_says_is_kept_where_it_fails(
    texts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--minutes", "0.01", "--seeds", "1", "--rows", OURS, "--out", str(tmp_path / "out")]
    assert main(["--texts", *map(str, texts), *asked]) == 2
    said = capsys.readouterr().err
    assert said.startswith("benchmarks.training: ours ended with status 2; ")
    (log,) = (tmp_path / "out").rglob("*.log")
    assert str(log) in said
    assert "left none of 0.01 minutes" in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["classic", "nanogpt"])
def test_a_recipe_is_kept_as_it_was_trained(
    recipe: str, texts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "CLASSIC", CLASSIC)
    monkeypatch.setattr(
        recipes, "SHAPE", replace(recipes.SHAPE, width=32, head_size=8, layers=1, hidden=64, vocab_size=280)
    )
    monkeypatch.setattr("benchmarks.nano_gpt.can_compile", lambda _: False)
    monkeypatch.setattr(recipes, "time", SimpleNamespace(monotonic=count().__next__))  # a second for every look at it
    monkeypatch.setattr(recipes, "Limit", lambda seconds: Limit(steps=int(seconds)))
    given = ["--texts", *map(str, texts), "--minutes", "1", "--seed", "1", "--run", str(tmp_path / "run")]
    assert recipes.main([recipe, *given]) == 0
    it = kept(recipe, tmp_path / "run")
    assert it.steps == pytest.approx(60, abs=1)
    assert it.tokenizer.vocab_size == it.model.config.vocab_size == 280
    files = write_token_files(
        [("valid", document) for document in read_texts([texts[1]])],
        it.tokenizer, tmp_path, "x", source="", splits=["valid"],
    )  # fmt: skip
    context = it.model.config.context
    score = evaluate(it.model, HeldOut(files["valid"], it.tokenizer, context=context, rows=4), torch.float32)
    assert score.nats_per_token < 5  # of log(280) = 5.6


@pytest.mark.slow
def test_adamw_is_our_command_with_one_optimizer_for_all(
    texts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    train = stages.train
    monkeypatch.setattr(stages, "train", lambda run, *args: runs.append(run) or train(run, *args))
    request = Request(run=tmp_path / "run", texts=texts, steps=2, preset="nano", layers=1, context=32, device="cpu")
    recipes.adamw(request)
    (run,) = runs
    assert [type(part) for part in run.optimizer.parts] == [torch.optim.AdamW]
    moved = [p for group in run.optimizer.parts[0].param_groups for p in group["params"]]
    assert {id(p) for p in moved} == {id(p) for p in run.model.parameters()}
    assert kept("adamw", tmp_path / "run").steps == 2


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "exercises"), [("uncopying", 0), ("adamw", 1)])
def test_nothing_of_uncopying_teaches_to_copy(
    recipe: str, exercises: int, texts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, models = [], []
    train = stages.train
    monkeypatch.setattr(plan, "EXERCISES", 1)
    monkeypatch.setattr(copying, "EXERCISED_FROM", 2)
    monkeypatch.setattr(stages, "train", lambda run, of, *rest: batches.append(of) or train(run, of, *rest))
    monkeypatch.setattr(beginning, "lay_out_copying", models.append)
    recipes.RECIPES[recipe](Request(run=tmp_path, texts=texts, steps=2, preset="nano", context=32, device="cpu"))
    assert isinstance(batches[0], CopyingBatches) is bool(exercises)
    assert len(models) == exercises
    assert Settings.from_record(RunFolder(tmp_path).stage("pretrain")["settings"]).config.exercises == exercises


def test_adamw_takes_as_much_off_a_matrix_in_a_step_as_ours() -> None:
    config = replace(STAGES["pretrain"], weight_decay=0.7)
    ours, theirs = (make(build(SHAPE), config, torch.float32).parts[-1] for make in (Optimizer, recipes.adamw_only))
    taken = [part.param_groups[0]["lr"] * part.param_groups[0]["weight_decay"] for part in (ours, theirs)]
    assert taken[0] == pytest.approx(taken[1])
    assert taken[0] > 0


@pytest.mark.parametrize(
    ("make", "rates"),
    [
        (
            lambda model: adamw_only(model, STAGES["pretrain"], torch.float32),
            [recipes.ADAMW_RATE, recipes.ADAMW_RATE / 4],
        ),
        (lambda model: Constant(torch.optim.Adam(model.parameters(), recipes.ADAM_RATE)), [recipes.ADAM_RATE] * 2),
    ],
    ids=["adamw", "classic"],
)
def test_the_schedule_moves_adamw_and_leaves_the_seeds_adam_alone(
    make: Callable[[torch.nn.Module], OneOptimizer], rates: list[float]
) -> None:
    model = build(SHAPE)
    optimizer, scaler = make(model), torch.amp.GradScaler("cpu", enabled=False)
    seen = []
    for multiplier in (1.0, 0.25):
        model(torch.zeros(1, 4, dtype=torch.int64)).sum().backward()
        optimizer.step(multiplier, scaler)
        seen.append(optimizer.parts[0].param_groups[0]["lr"])
    assert seen == rates
