"""What preparing a corpus takes: the figures are those of the text, and the memory is the most there was."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.prepare import main, peak_memory
from bpe.helpers import Helpers

ROOT = Path(__file__).resolve().parents[2]


HOLD_AND_GIVE_BACK = """
from benchmarks.prepare import peak_memory
before = peak_memory()
held = b"x" * 100_000_000
del held
print(peak_memory() - before)
"""


@pytest.mark.skipif(not peak_memory(), reason="the system does not tell how much memory a process took")
def test_the_peak_of_memory_holds_what_was_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLD_AND_GIVE_BACK], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) == pytest.approx(100_000_000, rel=0.05)


@pytest.mark.skipif(not peak_memory(), reason="the system does not tell how much memory a process took")
def test_the_peak_of_memory_is_that_of_other_processes_too() -> None:
    helpers = Helpers(eval, "lambda sizes: [len(b'x' * size) for size in sizes]")
    helpers.share([0], 1, list, list)  # by the helper, since it is asked first
    before = peak_memory()
    assert helpers.share([50_000_000], 1, list, list) == [50_000_000]
    assert peak_memory() - before > 45_000_000


def test_the_figures_are_those_of_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("the ship\n\nthe shore\n\n" * 20_000, encoding="utf-8")
    assert main(["--texts", str(tmp_path), "--vocab-size", "265", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["text_mb"] == pytest.approx(0.4, abs=0.1)
    assert (figures["documents"], figures["vocab_size"]) == (2, 265)  # the end is held out as another
    assert main(["--texts", str(tmp_path), "--vocab-size", "265"]) == 0
    assert f"{'tokens':24}{figures['tokens']:>15,}\n" in capsys.readouterr().out
