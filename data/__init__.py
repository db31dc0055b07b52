"""From files to batches: what a model learns from.

    sources.py           what was asked for: the user's files or a known data set
    documents.py         files and folders -> documents      gutenberg.py, clean.py: each cleaned
    writing_prompts.py   line-aligned files -> pairs         detokenise.py, clean.py: each cleaned
    tiny_stories.py      gutenberg_books.py                  other data sets, fetched by download.py
    splits.py            documents, pairs -> each with "train" or "valid"
    layout.py            a document or a pair -> token ids
    tokens.py            streams of them -> token files      batches.py: token files -> batches of a step

Imports bpe, and no torch.
"""

from data.documents import Document, Pair, Split
from data.errors import DataError
from data.sources import PairSource, TextSource, pair_source, text_source

__all__ = ["DataError", "Document", "Pair", "PairSource", "Split", "TextSource", "pair_source", "text_source"]
