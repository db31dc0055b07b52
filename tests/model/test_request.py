"""Laws of a request: what is of no use is refused, what is recorded is read back, only differences are listed."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sources import PAIRS, TEXTS
from model.config import preset
from model.errors import ConfigError, ModelError
from model.plan import Plan
from model.request import TRAIN_OPTIONS, Request, Settings, StageRecord, resumed_settings, train_config
from model.settings import STAGES, Limit, Stage
from model.stages import part_of

SETTINGS = Settings(shape=preset("nano", layers=1), config=STAGES["pretrain"], dtype="float32", preset="nano")
GIVEN: dict[str, Any] = {
    "texts": (Path("books"),),
    "pairs": Path("pairs"),
    "start_from": Path("runs/old"),
    "minutes": 1.0,
    "steps": 5,
    "tokens": 5,
    "device": "cpu",
}
SETTING = SETTINGS.as_options() | {"width": 640, "heads": 10}  # which fit the default preset by themselves
USEFUL = {
    "tokenizer": {"texts", "preset", "vocab_size"},
    "pretrain": {"texts", "minutes", "steps", "tokens", "device", *SETTING},
    "finetune": {"pairs", "start_from", "minutes", "steps", "tokens", "device", *SETTING},
    "all": {"texts", "pairs", "minutes", "steps", "tokens", "device", *SETTING},
}


@pytest.mark.parametrize("name", [*GIVEN, *SETTING])
@pytest.mark.parametrize("stage", USEFUL)
def test_an_option_is_taken_where_it_is_of_use_and_refused_by_name_elsewhere(stage: str, name: str) -> None:
    request = Request(**{name: (GIVEN | SETTING)[name]})
    if name in USEFUL[stage]:
        request.check(stage)
        return
    option = "--from" if name == "start_from" else f"--{name.replace('_', '-')}"
    with pytest.raises(ConfigError, match=rf"^--stage {stage} makes no use of {option}; leave that out"):
        request.check(stage)


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"lr": 0.0}, {"preset": "huge"}, {"layers": 0}, {"batch_tokens": 0}])
@pytest.mark.parametrize("stage", USEFUL)
def test_what_is_impossible_for_any_machine_and_data_is_refused_at_once(stage: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Request(**wrong).check(stage)


@pytest.mark.parametrize("name", ["minutes", "steps", "tokens"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_what_cannot_end_a_training_is_refused(name: str, value: float) -> None:
    limit: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=rf"^--{name} {value} cannot end a training; pass a finite number above 0$"):
        Request(**limit)


def test_two_ends_of_one_training_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--minutes and --tokens both end a training; pass one of them$"):
        Request(minutes=1, tokens=5)


@pytest.mark.parametrize("stage", get_args(Stage))
def test_settings_asked_for_are_taken_and_the_others_are_the_stages_own(stage: Stage) -> None:
    asked = {"seed": 7, "batch_tokens": 999, "lr": 0.5, "save_every": 3, "eval_every": 4}
    assert asked.keys() == set(TRAIN_OPTIONS)
    expected = replace(
        STAGES[stage], seed=7, batch_tokens=999, learning_rate=0.5, save_every=3, eval_every=4, eval_tokens=5
    )
    assert train_config(stage, Request(**asked), eval_tokens=5, batch_tokens=1) == expected  # type: ignore[arg-type]
    assert train_config(stage, Request(), eval_tokens=5) == replace(STAGES[stage], eval_tokens=5)


def recorded(request: Request, **changes: Any) -> dict[str, Any]:
    plan = Plan(SETTINGS, Limit(steps=5), preparing_seconds=2.5, closing_seconds=1.5, compiled=True)
    facts = {"state": "finished", "summary": "done", "source": "abc", "tokenizer": "def"}
    return plan.to_record() | request.data_record() | facts | changes


@pytest.mark.parametrize("data", [{"texts": (Path("a"), Path("b"))}, {"pairs": Path("c")}, {"dataset": "sample"}, {}])
def test_a_recorded_stage_is_read_back_with_its_data(data: dict[str, Any]) -> None:
    request = Request(**data)
    record = StageRecord.from_record(recorded(request, start_from="runs/old"))
    assert (record.settings, record.limit, record.compiled) == (SETTINGS, Limit(steps=5), True)
    assert (record.preparing_seconds, record.closing_seconds) == (2.5, 1.5)
    assert (record.finished, record.summary, record.source, record.tokenizer) == (True, "done", "abc", "def")
    assert record.start_from == "runs/old"
    for stage in get_args(Stage):
        assert Request().with_data_of(stage, record) == request
        own: dict[str, Any]
        for own in ({"texts" if stage == "pretrain" else "pairs": (Path("x"),)}, {"dataset": "gutenberg"}):
            assert Request(**own).with_data_of(stage, record) == Request(**own)
    of_the_other_stage = Request(pairs=Path("x")).with_data_of("pretrain", record)
    assert (of_the_other_stage.texts, of_the_other_stage.dataset) == (request.texts, request.dataset)


@given(step=st.integers(0, 9), asked=st.integers(1, 9), seconds=st.floats(0, 9), finished=st.booleans())
def test_a_finished_training_is_done_with_what_it_was_asked_for_and_with_less(
    step: int, asked: int, seconds: float, finished: bool
) -> None:
    record = StageRecord.from_record(recorded(Request(), step=step, seconds=seconds))
    record = replace(record, finished=finished, limit=Limit(seconds=8.5))
    assert record.is_done(Limit(seconds=8.5)) == finished  # perhaps it ended sooner than that, but of itself
    assert record.is_done(Limit(steps=asked)) == (finished and step >= asked)
    assert record.is_done(Limit(seconds=float(asked))) == (finished and seconds >= asked)
    assert not record.is_done(Limit())


MISSING = sorted(recorded(Request()).keys() - {"summary"})
OTHER_KINDS = {"settings": 5, "limit": 5, "closing_seconds": "soon", "step": "last", "texts": 5, "pairs": 5}


@pytest.mark.parametrize(
    "damage", [*({"without": name} for name in MISSING), *({k: v} for k, v in OTHER_KINDS.items())]
)
def test_a_damaged_record_is_one_line(damage: dict[str, Any]) -> None:
    record = recorded(Request(texts=(Path("a"),))) | damage
    record.pop(damage.get("without"), None)
    with pytest.raises(ModelError, match=r"--restart to train anew$") as error:
        StageRecord.from_record(record)
    assert "\n" not in str(error.value)


def test_going_on_lists_every_option_that_differs_and_no_other() -> None:
    record = StageRecord.from_record(recorded(Request(), start_from="runs/old"))
    own = SETTINGS.as_options()
    path = Path("runs/story/pretrain")
    assert resumed_settings("pretrain", record, Request(**own), path) == SETTINGS
    assert resumed_settings("pretrain", record, Request(start_from=Path("runs/old")), path) == SETTINGS
    for name, value in own.items():
        other = f"{value}x" if isinstance(value, str) else value + 1
        with pytest.raises(ModelError) as error:
            resumed_settings("pretrain", record, Request(**own | {name: other}), path)
        listed = f"other settings: {name} {value} (asked: {other}); leave those options out to go on, or pass --restart"
        assert listed in str(error.value)
    with pytest.raises(ModelError, match=r"from runs/old \(asked: runs/new\)"):
        resumed_settings("pretrain", record, Request(start_from=Path("runs/new")), path)


@pytest.mark.parametrize("texts", [None, (Path("a"),)])
@pytest.mark.parametrize("pairs", [None, Path("b")])
@pytest.mark.parametrize("dataset", [None, *TEXTS, *PAIRS, "nonsense"])
def test_of_a_request_for_all_each_stage_gets_its_part(
    texts: tuple[Path, ...] | None, pairs: Path | None, dataset: str | None
) -> None:
    asked = Request(texts=texts, pairs=pairs, dataset=dataset, minutes=3, preset="nano", layers=2, seed=5)
    first, second = part_of(asked, "pretrain"), part_of(asked, "finetune")
    assert (first.minutes, second.minutes) == (2, 1)
    assert (first.preset, first.layers, second.preset, second.layers) == ("nano", 2, None, None)
    assert first.seed == second.seed == 5
    if dataset is None:
        assert first.dataset is second.dataset is None
    else:  # nobody's data set is passed over: a stage that cannot use it complains
        assert dataset in (first.dataset, second.dataset)
    if texts is None and dataset in TEXTS:
        assert (first.dataset, second.dataset) == (dataset, dataset if pairs is None and dataset in PAIRS else None)


def test_every_option_of_the_request_but_its_places_is_refused_compared_or_recorded() -> None:
    compared = SETTINGS.as_options().keys() | {"start_from"}
    limits_and_data = GIVEN.keys() | {"dataset"}
    elsewhere = {"run", "downloads", "restart", "device"}  # where it is and how, not what it learns
    assert {field.name for field in fields(Request)} == compared | limits_and_data | elsewhere
