"""What can go wrong that the user can put right.

Out: a small tree of errors whose text is one line: what happened, why it matters, what to do next.

    UserError                 caught by the commands, which print it and exit with status 2
      BPEError                bpe: a vocabulary, a tokenizer file, a text that has no UTF-8
      FileError               a file or folder that cannot be read or written
      DataError               data: a corpus, a token file                  (data/errors.py)
      ModelError              model: settings, weights, a run               (model/errors.py)

Any other exception is a fault of ours and keeps its traceback.
"""


class UserError(Exception):
    """Something the user can put right; its text is one line: what, why, what to do."""


class BPEError(UserError):
    """A vocabulary, tokenizer file or text that the tokenizer cannot use."""


class FileError(UserError):
    """A file or folder that cannot be read or written."""
