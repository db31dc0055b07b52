"""What a program that only encodes and decodes has to wait for."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SLOW_TO_IMPORT = {"torch", "tqdm", "safetensors", "matplotlib", "tokenizers", "transformers", "multiprocessing"}


def test_importing_bpe_and_using_a_tokenizer_imports_nothing_slow(trained, tmp_path):
    trained.save(tmp_path / "tokenizer.json")
    code = (
        "import sys; from bpe import Tokenizer; tok = Tokenizer.load(sys.argv[1]); tok.decode(tok.encode('the cat'));"
        "print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "tokenizer.json")]
    modules = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert "bpe.tokenizer" in modules
    assert SLOW_TO_IMPORT.isdisjoint(modules)
