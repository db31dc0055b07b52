"""One corpus, one vocabulary; one text, one row of ids: whatever the workers, the blocks, the order, the hash seed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bpe.block_encoder
import bpe.cuts
import bpe.encoder
import bpe.words
from bpe import PATTERNS, Tokenizer

ROOT = Path(__file__).resolve().parents[2]

# Blocks of so many characters, and how many bytes of known stretches are kept: from nearly nothing to all.
BLOCKS = st.integers(1, 60)
CAPACITIES = st.sampled_from([0, 20, 200, 1 << 22])
WORKERS = st.integers(1, 3)


@pytest.mark.parametrize("pattern", [*PATTERNS, r"\p{L}+|\d"])
def test_no_order_of_the_texts_no_size_of_blocks_and_no_number_of_workers_changes_a_vocabulary(pattern, corpus_text):
    @given(st.data(), st.lists(corpus_text, max_size=6), BLOCKS, CAPACITIES, WORKERS)
    def law(data, texts, block, capacity, workers):
        settings = {"vocab_size": 290, "pattern": pattern, "shrink": True}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bpe.words, "cuts_of", lambda pattern: None)  # piece by piece: the definition
            expected = Tokenizer.train(texts, workers=1, **settings)
        reordered = data.draw(st.permutations(texts))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bpe.words, "CAPACITY", capacity)
            patch.setattr(bpe.words, "BLOCK", block)
            patch.setattr(bpe.words, "BLOCK_OF_THREADS", block)
            assert Tokenizer.train(reordered, workers=workers, **settings) == expected

    law()


def test_no_size_of_blocks_no_number_of_workers_and_nothing_encoded_before_changes_ids(
    trained, corpus_text, any_text, by_definition
):
    @given(st.lists(st.one_of(corpus_text, any_text), max_size=4), BLOCKS, CAPACITIES, WORKERS)
    def law(texts, block, capacity, workers):
        expected = [by_definition(trained, text) for text in texts]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bpe.encoder, "LONG", 1)
            patch.setattr(bpe.block_encoder, "CAPACITY", capacity)
            patch.setattr(bpe.encoder, "SHARED", 1)
            patch.setattr(bpe.encoder, "BLOCK", block)
            assert [trained.encode_to_array(text, workers=workers).tolist() for text in texts] == expected
            assert [ids.tolist() for ids in trained.encode_batch(texts, workers=workers)] == expected

    law()


TRAIN_AND_ENCODE = """
import random, sys
from pathlib import Path
from bpe import Tokenizer

chance = random.Random(1)
words = ["".join(chance.choices("abcde\\u00e9\\u4f60\\u597d '1\\n", k=chance.randint(1, 9))) for _ in range(400)]
texts = [" ".join(chance.choices(words, k=size)) for size in (5, 50, 900, 900)]  # short ones, and some in blocks
tok = Tokenizer.train(texts, vocab_size=600, special_tokens=["<|b|>", "<|a|>"], workers=2)
tok.save(Path(sys.argv[1]))
for text in texts:
    print(tok.encode(text), tok.encode_to_array(text, workers=2).tolist())
print(tok.fingerprint, tok)
"""


def test_a_vocabulary_its_file_and_ids_are_the_same_with_every_hash_seed(tmp_path):
    """Many counts are equal here, so an order of words that hangs on hashes would show in the merges."""
    results = set()
    for seed in ("0", "1", "4294967295"):
        file = tmp_path / f"{seed}.json"
        command = [sys.executable, "-c", TRAIN_AND_ENCODE, str(file)]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
        results.add((file.read_bytes(), done.stdout))
    assert len(results) == 1
