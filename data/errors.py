"""The data package's branch of the error tree in bpe/errors.py."""

from bpe.errors import UserError


class DataError(UserError):
    """A corpus or token file that cannot be used."""
