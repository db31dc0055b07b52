"""What a person asks of a run, and how it fits what the run already is.

In: the options of LLM-BPE.py (None where not given) and the run's record.  Out: the settings to train with, or one line
that says which options differ from the run's own.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from model.config import ModelConfig, preset
from model.errors import ConfigError, ModelError
from model.run import differences
from model.settings import STAGES, Limit, Stage, TrainConfig

SHAPE_OPTIONS = ("layers", "width", "heads", "context", "vocab_size")
TRAIN_OPTIONS = ("seed", "batch_tokens", "lr", "save_every", "eval_every")


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
        given = [name for name in ("minutes", "steps", "tokens") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"--{given[0]} and --{given[1]} both end a training; pass one of them")
        for name in given:
            if not getattr(self, name) > 0:
                raise ConfigError(f"--{name} {getattr(self, name)} trains nothing; pass a number above 0")

    def options(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Those of the named options that were given."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def limit(self, batch_tokens: int) -> Limit | None:
        """What was asked to end the training, or None."""
        if self.minutes is not None:
            return Limit(seconds=60 * self.minutes)
        steps = self.steps if self.tokens is None else -(-self.tokens // batch_tokens)
        return None if steps is None else Limit(steps=steps)

    def data_record(self) -> dict[str, Any]:
        """Which data was asked for, as JSON values; `with_data_of` undoes it."""
        return {
            "texts": None if self.texts is None else [str(path) for path in self.texts],
            "pairs": None if self.pairs is None else str(self.pairs),
            "dataset": self.dataset,
        }

    def with_data_of(self, record: Mapping[str, Any]) -> "Request":
        """This request, with the data of a recorded one unless it names data itself."""
        if self.texts is not None or self.pairs is not None or self.dataset is not None:
            return self
        texts, pairs = record["texts"], record["pairs"]
        return replace(
            self,
            texts=None if texts is None else tuple(map(Path, texts)),
            pairs=None if pairs is None else Path(pairs),
            dataset=record["dataset"],
        )


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
        """The settings `to_record` made. Raises ModelError when they are damaged or of another version."""
        try:
            return cls(
                preset=record["preset"],
                dtype=record["dtype"],
                shape=ModelConfig(**record["model"]),
                config=TrainConfig(**record["train"]),
            )
        except (KeyError, TypeError) as error:
            raise ModelError(
                f"run.json holds settings of another version ({error}); pass --restart to train anew"
            ) from error

    def as_options(self) -> dict[str, Any]:
        """The same settings under the names that the command line has for them."""
        shape, config = asdict(self.shape), asdict(self.config)
        named = {"preset": self.preset, "dtype": self.dtype, "lr": config["learning_rate"]}
        return (
            named
            | {name: shape[name] for name in SHAPE_OPTIONS}
            | {name: config[name] for name in TRAIN_OPTIONS if name != "lr"}
        )


def resumed_settings(stage: Stage, record: Mapping[str, Any], request: Request, path: Path) -> Settings:
    """The settings of a stage that has begun. Raises ModelError listing the options that differ from them."""
    settings = Settings.from_record(record["settings"])
    asked = request.options(("preset", "dtype", *SHAPE_OPTIONS, *TRAIN_OPTIONS))
    if wrong := differences(settings.as_options(), asked):
        raise ModelError(
            f"{path} was begun with other settings: {'; '.join(wrong)}; "
            f"leave those options out to go on, or pass --restart to train {stage} anew"
        )
    return settings


def train_config(stage: Stage, request: Request, **derived: Any) -> TrainConfig:
    """The stage's own numbers, then what follows from the machine or the data, then what was asked for."""
    asked = request.options(TRAIN_OPTIONS)
    if "lr" in asked:
        asked["learning_rate"] = asked.pop("lr")
    return replace(STAGES[stage], **(derived | asked))


def asked_shape(name: str, request: Request) -> ModelConfig:
    """The preset with the sizes that were asked for. Raises ConfigError on a shape that is not possible."""
    return preset(name, **request.options(SHAPE_OPTIONS))
