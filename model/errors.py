"""The model package's branch of the error tree in bpe/errors.py."""

from bpe.errors import UserError


class ModelError(UserError):
    """Settings, weights or a run that cannot be used."""


class ConfigError(ModelError):
    """A setting with an impossible value, or two that do not fit together."""
