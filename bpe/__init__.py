"""Byte-level BPE: learn a vocabulary from text, turn text into token ids and back.

>>> from bpe import Tokenizer
>>> tok = Tokenizer.train(["the cat sat on the mat"], vocab_size=259)
>>> tok.decode(tok.encode("the hat"))
'the hat'
"""

from bpe.errors import BPEError
from bpe.split import PATTERNS
from bpe.tokenizer import StreamDecoder, Tokenizer

__all__ = ["PATTERNS", "BPEError", "StreamDecoder", "Tokenizer"]
