"""The data package's branch of the error tree in bpe/errors.py."""

from bpe.errors import UserError

CONVERT_IT = "convert it first, for example: iconv -f latin1 -t utf-8 OLD > NEW"  # what to do with other encodings


class DataError(UserError):
    """A corpus or token file that cannot be used."""
