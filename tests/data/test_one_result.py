"""The same files give the same examples, tokenizer and token files, in whatever order they are named or hashed."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.sources import text_source
from data.splits import FEW

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["the", "ship", "sank", "slowly", "man", "swam", "shore", "far", "sang", "naïve", "snow", "\n\n"]


def story(seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=60))


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Files, a folder of files, a file that also lies in the folder, and another name for one."""
    (tmp_path / "more").mkdir()
    files = [tmp_path / f"{number}.txt" for number in range(FEW // 2)]
    for number, file in enumerate([*files, *(tmp_path / "more" / f"{number}.txt" for number in range(FEW))]):
        file.write_text(f"{story(number)}\n<|endoftext|>\n{story(-number - 1)}", encoding="utf-8")
    try:
        (tmp_path / "again.txt").symlink_to(files[3])
    except OSError:  # Windows asks for a right to make links
        return [*files, tmp_path / "more", tmp_path / "more" / "7.txt"]
    return [*files, tmp_path / "more", tmp_path / "more" / "7.txt", tmp_path / "again.txt"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_files_named_in_any_order_are_the_same_examples(paths: list[Path], data: st.DataObject) -> None:
    expected = list(text_source(paths, None, Path()).examples())
    source = text_source(data.draw(st.permutations(paths)), None, Path())
    assert list(source.examples()) == expected
    assert len(expected) == 2 * (FEW // 2 + FEW)


PREPARE = """
import sys
from pathlib import Path
from bpe import Tokenizer
from data.layout import SPECIAL_TOKENS
from data.sources import pair_source, text_source
from data.tokens import write_token_files

*texts, out = map(Path, sys.argv[1:])
sources = {"texts": text_source(texts, None, out), "pairs": pair_source(None, "sample", out)}
training = (document.text for split, document in sources["texts"].examples() if split == "train")
tok = Tokenizer.train(training, vocab_size=300, special_tokens=SPECIAL_TOKENS, shrink=True)
tok.save(out / "tokenizer.json")
for name, source in sources.items():
    write_token_files(source.examples(), tok, out, name, source=source.fingerprint())
"""


def test_tokenizer_and_token_files_are_the_same_with_every_hash_seed(paths: list[Path], tmp_path: Path) -> None:
    results = set()
    for seed, order in (("0", paths), ("1", paths[::-1]), ("4294967295", paths[5:] + paths[:5])):
        folder = tmp_path / f"out {seed}"
        command = [sys.executable, "-c", PREPARE, *map(str, order), str(folder)]
        subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, check=True)
        results.add(tuple((file.name, file.read_bytes()) for file in sorted(folder.iterdir())))
    assert len(results) == 1
    assert len(results.pop()) == 9
