"""The shape of a model, as a value that is checked when made.

In: sizes, or a preset's name with the sizes that differ.  Out: a ModelConfig, from which every tensor's shape and the
number of parameters follow. No torch here: a shape is known before any weight is.
"""

from dataclasses import dataclass, replace
from typing import Literal

from model.errors import ConfigError

Kind = Literal["qwen3", "classic"]
SIZES = ("vocab_size", "context", "width", "layers", "heads", "kv_heads", "hidden", "head_size")


def _check_size(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise ConfigError(f"{name} {value!r} is not possible; it is a whole number, at least 1")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Every size in the model follows from these. Raises ConfigError on values no model can have.

    `kind` "qwen3" is the architecture of Qwen3ForCausalLM (model/transformer.py), "classic" the design of 2017-2019
    (model/classic.py), which has no use for kv_heads, rope_theta and a head size of its own.
    """

    vocab_size: int
    """Different tokens; a run's tokenizer decides it."""
    context: int
    """Tokens in a window: the furthest a prediction can look back, plus itself."""
    width: int
    """Channels of the residual stream."""
    layers: int
    """Blocks, each of one attention and one feed-forward network."""
    heads: int
    """Heads of the queries."""
    kv_heads: int
    """Heads of the keys and values; heads / kv_heads queries share one (Ainslie et al. 2023, arXiv:2305.13245)."""
    hidden: int
    """Channels inside the feed-forward network."""
    head_size: int = 64
    """Channels of one head; heads x head_size need not be the width."""
    rope_theta: float = 10_000.0
    """Base of the rotary wavelengths: the slowest pair of channels turns once in about 2 pi rope_theta tokens."""
    norm_eps: float = 1e-6
    """Added to a mean square before its root, against division by zero."""
    kind: Kind = "qwen3"
    """The architecture."""

    def __post_init__(self) -> None:
        for name in SIZES:
            _check_size(name, getattr(self, name))
        for name in ("rope_theta", "norm_eps"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < float("inf"):
                raise ConfigError(f"{name} {value!r} is not possible; it is a number above 0")
        if self.kind == "classic":
            self._check_classic()
        elif self.kind != "qwen3":
            raise ConfigError(f"there is no architecture {self.kind!r}; there are 'qwen3' and 'classic'")
        if self.heads % self.kv_heads:
            nearest = _nearest_divisor(self.heads, self.kv_heads)
            raise ConfigError(
                f"{self.heads} heads cannot share {self.kv_heads} key and value heads evenly; {nearest} can be shared"
            )
        if self.kind == "qwen3" and self.head_size % 2:
            raise ConfigError(
                f"head_size {self.head_size} is odd, and rotary positions turn channels in pairs; "
                f"{self.head_size + 1} is possible"
            )

    def _check_classic(self) -> None:
        if self.width % self.heads:
            nearest = max(1, round(self.width / self.heads)) * self.heads
            raise ConfigError(f"width {self.width} does not divide into {self.heads} heads; {nearest} does")
        if self.kv_heads != self.heads:
            raise ConfigError(f"classic has as many key and value heads as heads: {self.heads}, not {self.kv_heads}")
        if self.head_size != self.width // self.heads:
            raise ConfigError(
                f"classic divides its width among the heads: head_size {self.width // self.heads}, not {self.head_size}"
            )

    @property
    def num_parameters(self) -> int:
        """Weights that are trained, a tied tensor counted once."""
        if self.kind == "classic":
            attention = 4 * self.width * self.width + self.width
            feed_forward = 2 * self.width * self.hidden + self.hidden + self.width
            norms = 2 * 2 * self.width
            embeddings = (self.vocab_size + self.context) * self.width
            head = self.vocab_size * (self.width + 1)
            return embeddings + self.layers * (attention + feed_forward + norms) + 2 * self.width + head
        attention = 2 * self.width * (self.heads + self.kv_heads) * self.head_size
        feed_forward = 3 * self.width * self.hidden
        norms = 2 * self.width + 2 * self.head_size
        return self.vocab_size * self.width + self.layers * (attention + feed_forward + norms) + self.width

    @property
    def operations_per_token(self) -> int:
        """Of a training step, forward and backward, multiplications and additions counted apart.

        Kaplan et al. 2020, arXiv:2001.08361, section 2.1; every weight but the untied embedding's multiplies.
        """
        embeddings = (self.vocab_size + self.context) * self.width if self.kind == "classic" else 0
        attention = 12 * self.layers * self.heads * self.head_size * self.context
        return 6 * (self.num_parameters - embeddings) + attention


def _qwen3(layers: int, width: int, heads: int, kv_heads: int, hidden: int, vocab: int, context: int) -> ModelConfig:
    """A row of the table of presets, in the order of its columns."""
    return ModelConfig(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden,
        vocab_size=vocab,
        context=context,
    )


PRESETS: dict[str, ModelConfig] = {
    "nano": _qwen3(4, 128, 2, 2, 384, 4_096, 256),
    "micro": _qwen3(6, 192, 3, 3, 512, 4_096, 256),
    "tiny": _qwen3(4, 256, 4, 2, 704, 4_096, 256),
    "small": _qwen3(8, 256, 4, 4, 704, 8_192, 512),
    "mini": _qwen3(3, 512, 4, 2, 1_408, 4_096, 256),
    "medium": _qwen3(12, 384, 6, 6, 1_024, 16_384, 512),
    "storygpt": _qwen3(10, 512, 8, 8, 1_344, 16_384, 256),
    "story": _qwen3(12, 640, 10, 5, 2_240, 16_384, 1_024),
    "large": _qwen3(12, 1_024, 16, 16, 2_816, 16_384, 1_024),
    "classic": ModelConfig(
        kind="classic", layers=8, width=512, heads=8, kv_heads=8, hidden=2_048, vocab_size=50_257, context=256
    ),
}


def preset(name: str, **sizes: int) -> ModelConfig:
    """The preset of that name, with `sizes` in place of its own.

    What hangs on a changed size follows it unless it is given too: a new width brings as many heads as fit in it and a
    feed-forward network of the preset's proportion (in steps of 64 channels); new heads bring key and value heads, at
    most as many as the preset's proportion, that they can share evenly.
    Raises ConfigError on an unknown name or field, and on a shape that is not possible.
    """
    if name not in PRESETS:
        known = ", ".join(f"{known} ({config.num_parameters:,} parameters)" for known, config in PRESETS.items())
        raise ConfigError(f"there is no preset {name!r}; there are {known}")
    base = PRESETS[name]
    for size, value in sizes.items():
        if size not in SIZES:
            raise ConfigError(f"a model has no size called {size!r}; it has {', '.join(SIZES)}")
        _check_size(size, value)
    width = sizes.get("width", base.width)
    if width != base.width:
        sizes.setdefault("heads", max(1, width // base.head_size))
        sizes.setdefault("hidden", max(1, round(base.hidden * width / base.width / 64)) * 64)
    heads = sizes.get("heads", base.heads)
    if heads != base.heads:
        sizes.setdefault("kv_heads", _largest_divisor(heads, at_most=max(1, heads * base.kv_heads // base.heads)))
    if base.kind == "classic":
        sizes.setdefault("head_size", max(1, width // heads))
    return replace(base, **sizes)  # type: ignore[arg-type]  # sizes are the whole-number fields, checked above


def _largest_divisor(number: int, *, at_most: int) -> int:
    return next(divisor for divisor in range(at_most, 0, -1) if number % divisor == 0)


def _nearest_divisor(number: int, wanted: int) -> int:
    divisors = (divisor for divisor in range(1, number + 1) if number % divisor == 0)
    return min(divisors, key=lambda divisor: abs(divisor - wanted))
