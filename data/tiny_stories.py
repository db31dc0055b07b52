"""TinyStories: very short stories in a small child's words, by GPT-4 (Eldan and Li 2023, arXiv:2305.07759).

In: a folder for downloads.  Out: the data set's two files in it, one story after the other with `<|endoftext|>` lines
between them, which is what `data.documents.read_texts` reads. Published under CDLA-Sharing-1.0.
"""

from pathlib import Path

from data.documents import Split
from data.download import fetch

_FOLDER = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main"
FILES: dict[Split, str] = {"train": "TinyStoriesV2-GPT4-train.txt", "valid": "TinyStoriesV2-GPT4-valid.txt"}


def download(folder: Path, address: str = _FOLDER) -> dict[Split, Path]:
    """The training and validation files in `folder`, fetched from below `address` where they are not there yet.

    About 2.3 GB. Raises DataError when there is no network and no earlier download.
    """
    for name in FILES.values():
        fetch(f"{address}/{name}", folder / name)
    return {split: folder / name for split, name in FILES.items()}
