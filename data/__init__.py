"""From files to batches: what a model learns from.

    sources.py           what was asked for: the user's files or a known data set
    documents.py         files and folders -> documents      gutenberg.py (apparatus.py, unwrap.py), clean.py: cleaned
    writing_prompts.py   line-aligned files -> pairs         detokenise.py, clean.py: cleaned
    tiny_stories.py      gutenberg_books.py                  other data sets, fetched by download.py (partial.py)
    splits.py            documents, pairs -> each with "train" or "valid"
    layout.py            a document or a pair -> token ids   encoding.py: streams of them, on all cores
    tokens.py            streams of ids -> token files       batches.py (packing.py): token files -> batches of a step

A run starts at `data.sources.text_source` and `data.sources.pair_source`. Nothing is imported here, so that
`python -m data.gutenberg` starts with its own module fresh. The package imports bpe, and no torch.
"""
