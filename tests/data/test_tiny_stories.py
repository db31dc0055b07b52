"""The data set's two files are fetched once and read as stories, their split kept."""

from pathlib import Path
from typing import Any

import pytest

from data.documents import read_texts
from data.download import Downloader, Unreachable
from data.tiny_stories import FILES, download


class FromMemory(Downloader):
    """Writes what it is asked for, and remembers what that was."""

    def fetch(self, urls: Any, to: Path, **_: Any) -> Path:
        asked.append(urls)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text("One day, a cat sat.\n<|endoftext|>\nOne day, a dog ran.\n<|endoftext|>\n", encoding="utf-8")
        return to


asked: list[str] = []


def test_both_files_are_fetched_from_their_own_addresses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked.clear()
    files = download(tmp_path, address="https://example.org/main", downloader=FromMemory())
    assert asked == [f"https://example.org/main/{name}" for name in FILES.values()]
    assert [document.text for document in read_texts([files["train"]])] == [
        "One day, a cat sat.",
        "One day, a dog ran.",
    ]
    assert "2.3 GB" in capsys.readouterr().err


def test_without_a_server_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        download(tmp_path, address="http://127.0.0.1:9", downloader=Downloader(pause=0, backoff=0))


def test_the_real_files_hold_as_many_stories_as_they_should(corpora: Path) -> None:
    counts = {file.name: len(list(read_texts([file]))) for file in (corpora / "tinystories").iterdir()}
    assert counts == {"train.txt": 2284, "train_recased.txt": 2496, "valid.txt": 200}
