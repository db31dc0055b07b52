"""The model: from token files to trained weights, and from weights to stories.

    config ──> build ──> language_model ──> stages ──> folder ──> loading ──> story ──> text
               transformer, classic         train, optimizer,     quantize     sampling
               (both on attention)          evaluate, checkpoint

>>> from model import load, generate  # doctest: +SKIP
>>> model, tok = load("runs/story/finetune")  # doctest: +SKIP
>>> print(*generate(model, tok, "A man in a sinking ship", seed=1), sep="")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.loading import load as load
    from model.story import generate as generate

__all__ = ["generate", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` and `generate` when first asked for: torch takes a second that wrong use of a command should not.

    Their modules have other names than they, because an imported module becomes an attribute of its package.
    """
    if name == "generate":
        from model.story import generate

        return generate
    if name == "load":
        from model.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
