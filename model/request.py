"""What a person asks of a run, and how it fits what the run already is.

In: the options of LLM-BPE.py (None where not given) and the run's record.  Out: the settings to train with, or one line
that says which options differ from the run's own.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from model.config import ModelConfig, preset
from model.errors import ConfigError, ModelError
from model.run import differences
from model.settings import STAGES, Limit, Stage, TrainConfig

DEFAULT_PRESET = "story"
MODEL_OPTIONS = ("layers", "width", "heads", "context")
SHAPE_OPTIONS = (*MODEL_OPTIONS, "vocab_size")
TRAIN_OPTIONS = ("seed", "batch_tokens", "lr", "save_every", "eval_every")
LIMIT_OPTIONS = ("minutes", "steps", "tokens")
USELESS: dict[str, tuple[str, ...]] = {  # options of which a stage could make nothing
    "tokenizer": ("pairs", "start_from", *LIMIT_OPTIONS, *MODEL_OPTIONS, *TRAIN_OPTIONS, "device", "dtype"),
    "pretrain": ("pairs", "start_from"),
    "finetune": ("texts",),
    "all": ("start_from",),
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of one command; None is "not given"."""

    run: Path = Path("runs/story")
    downloads: Path = Path("downloads")
    texts: tuple[Path, ...] | None = None
    pairs: Path | None = None
    dataset: str | None = None
    preset: str | None = None
    layers: int | None = None
    width: int | None = None
    heads: int | None = None
    context: int | None = None
    vocab_size: int | None = None
    minutes: float | None = None
    steps: int | None = None
    tokens: int | None = None
    device: str | None = None
    dtype: str | None = None
    seed: int | None = None
    batch_tokens: int | None = None
    lr: float | None = None
    save_every: int | None = None
    eval_every: int | None = None
    restart: bool = False
    start_from: Path | None = None

    def __post_init__(self) -> None:
        limits = self.options(LIMIT_OPTIONS)
        if len(limits) > 1:
            first, second, *_ = limits
            raise ConfigError(f"--{first} and --{second} both end a training; pass one of them")
        for name, value in limits.items():
            if not 0 < value < math.inf:
                raise ConfigError(f"--{name} {value} cannot end a training; pass a finite number above 0")

    def check(self, stage: str) -> None:
        """Raise ConfigError on what is impossible whatever the machine and the data are, or is of no use to `stage`."""
        if useless := self.options(USELESS[stage]):
            names = ", ".join("--from" if name == "start_from" else f"--{name.replace('_', '-')}" for name in useless)
            raise ConfigError(f"--stage {stage} makes no use of {names}; leave that out, or choose another stage")
        asked_shape(self.preset or DEFAULT_PRESET, self)
        for training in STAGES:
            train_config(training, self)

    def options(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Those of the named options that were given."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def limit(self, tokens_per_step: int) -> Limit | None:
        """What was asked to end the training, or None."""
        if self.minutes is not None:
            return Limit(seconds=60 * self.minutes)
        steps = self.steps if self.tokens is None else -(-self.tokens // tokens_per_step)
        return None if steps is None else Limit(steps=steps)

    def data_record(self) -> dict[str, Any]:
        """Which data was asked for, as JSON values; StageRecord reads them."""
        return {
            "texts": None if self.texts is None else [str(path) for path in self.texts],
            "pairs": None if self.pairs is None else str(self.pairs),
            "dataset": self.dataset,
        }

    def with_data_of(self, stage: Stage, record: "StageRecord") -> "Request":
        """This request, with the data of the stage's record unless it names data for the stage itself."""
        own = self.texts if stage == "pretrain" else self.pairs
        if own is not None or self.dataset is not None:
            return self
        return replace(self, texts=record.texts, pairs=record.pairs, dataset=record.dataset)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides what a stage's training computes; recorded in run.json at its start."""

    shape: ModelConfig
    config: TrainConfig
    dtype: str
    preset: str

    def to_record(self) -> dict[str, Any]:
        """As JSON values."""
        return {"preset": self.preset, "dtype": self.dtype, "model": asdict(self.shape), "train": asdict(self.config)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Settings":
        """The settings `to_record` made. Raises what damaged ones make: KeyError, TypeError, ModelError."""
        return cls(
            preset=str(record["preset"]),
            dtype=str(record["dtype"]),
            shape=ModelConfig(**record["model"]),
            config=TrainConfig(**record["train"]),
        )

    @property
    def tokens_per_step(self) -> int:
        """Positions in one optimizer step."""
        return self.config.rows(self.shape.context) * self.shape.context

    def as_options(self) -> dict[str, Any]:
        """The same settings under the names that the command line has for them."""
        config = asdict(self.config)
        named = {"preset": self.preset, "dtype": self.dtype, "lr": config["learning_rate"]}
        return named | shape_options(self.shape) | {name: config[name] for name in TRAIN_OPTIONS if name != "lr"}


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What run.json says of a stage that has begun."""

    settings: Settings
    limit: Limit
    preparing_seconds: float
    closing_seconds: float
    most_steps: int | None
    compiled: bool
    finished: bool
    step: int  # where it is finished: how far it came,
    seconds: float  # how long it took,
    summary: str  # and what came of it
    source: str  # fingerprint of its data
    tokenizer: str  # fingerprint
    texts: tuple[Path, ...] | None
    pairs: Path | None
    dataset: str | None
    start_from: str | None
    pretrained: str | None  # of finetuning: hash of the weights it began with, where that is known

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "StageRecord":
        """Read it from its JSON values. Raises ModelError when they are damaged or of another version."""
        try:
            return cls(
                settings=Settings.from_record(record["settings"]),
                limit=Limit(**record["limit"]),
                preparing_seconds=float(record["preparing_seconds"]),
                closing_seconds=float(record["closing_seconds"]),
                most_steps=None if record["most_steps"] is None else int(record["most_steps"]),
                compiled=bool(record["compiled"]),
                finished=record["state"] == "finished",
                step=int(record.get("step", 0)),
                seconds=float(record.get("seconds", 0.0)),
                summary=str(record.get("summary")),
                source=str(record["source"]),
                tokenizer=str(record["tokenizer"]),
                texts=None if record["texts"] is None else tuple(map(Path, record["texts"])),
                pairs=None if record["pairs"] is None else Path(record["pairs"]),
                dataset=record["dataset"],
                start_from=record.get("start_from"),
                pretrained=record.get("pretrained"),
            )
        except (KeyError, TypeError, ValueError, AttributeError, ModelError) as error:
            raise ModelError(
                f"run.json holds settings that are damaged or of another version ({error!r}); "
                "pass --restart to train anew"
            ) from error

    def is_done(self, limit: Limit) -> bool:
        """Whether a training that is finished has nothing left to do under this limit."""
        done = limit.progress(step=self.step, seconds=self.seconds, plateau=None, decay_share=1.0) >= 1.0
        return self.finished and (done or limit == self.limit)


def resumed_settings(stage: Stage, record: StageRecord, request: Request, path: Path) -> Settings:
    """The settings of a stage that has begun. Raises ModelError listing the options that differ from them."""
    refuse_differences(
        f"{path} was begun with other settings",
        record.settings.as_options() | {"from": record.start_from},
        request.options(("preset", "dtype", *SHAPE_OPTIONS, *TRAIN_OPTIONS))
        | {"from": None if request.start_from is None else str(request.start_from)},
        f"leave those options out to go on, or pass --restart to train {stage} anew",
    )
    return record.settings


def refuse_differences(what: str, own: Mapping[str, Any], asked: Mapping[str, Any], what_to_do: str) -> None:
    """Raise ModelError listing the settings asked for that are not the run's own."""
    if wrong := differences(own, asked):
        raise ModelError(f"{what}: {'; '.join(wrong)}; {what_to_do}")


def train_config(stage: Stage, request: Request, **derived: Any) -> TrainConfig:
    """The stage's own numbers, then what follows from the machine or the data, then what was asked for."""
    asked = request.options(TRAIN_OPTIONS)
    if "lr" in asked:
        asked["learning_rate"] = asked.pop("lr")
    return replace(STAGES[stage], **(derived | asked))


def shape_options(shape: ModelConfig) -> dict[str, int]:
    """A shape's sizes under the names that the command line has for them."""
    return {name: getattr(shape, name) for name in SHAPE_OPTIONS}


def asked_shape(name: str, request: Request) -> ModelConfig:
    """The preset with the sizes that were asked for. Raises ConfigError on a shape that is not possible."""
    return preset(name, **request.options(SHAPE_OPTIONS))
