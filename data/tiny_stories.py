"""TinyStories: very short stories in a small child's words, by GPT-4 (Eldan and Li 2023, arXiv:2305.07759).

In: a folder for downloads.  Out: the data set's two files in it, one story after the other with `<|endoftext|>` lines
between them, which is what `data.documents.read_texts` reads. Published under CDLA-Sharing-1.0.
"""

import sys
from pathlib import Path

from data.documents import Split
from data.download import Downloader

ADDRESS = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main"
FILES: dict[Split, str] = {"train": "TinyStoriesV2-GPT4-train.txt", "valid": "TinyStoriesV2-GPT4-valid.txt"}


def download(folder: Path, *, address: str = ADDRESS, downloader: Downloader | None = None) -> dict[Split, Path]:
    """The training and validation files in `folder`, fetched from below `address` where they are not there yet.

    Says on stderr how much that is. Raises Unreachable when there is no network and no earlier download, and DataError
    for a file that was changed since.
    """
    files = {split: folder / name for split, name in FILES.items()}
    if not all(file.exists() for file in files.values()):
        print(f"TinyStories: 2.3 GB to fetch into {folder}, once only; a stopped download goes on", file=sys.stderr)
    downloader = downloader or Downloader()
    for file in files.values():
        downloader.fetch(f"{address}/{file.name}", file)
    return files
