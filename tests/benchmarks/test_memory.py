"""The large file is made of the texts' paragraphs, and what is measured on it is what the command says."""

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.memory import main, write_shuffled

PARAGRAPHS = [f"The {number}th ship sank slowly, and the man swam to the shore." for number in range(50)]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for name, part in (("one", PARAGRAPHS[:20]), ("two", PARAGRAPHS[20:])):
        (tmp_path / "texts" / f"{name}.txt").write_text("\n\n".join(part), encoding="utf-8")
    return tmp_path / "texts"


def test_every_paragraph_is_used_once_before_any_is_used_again_in_another_order(texts: Path) -> None:
    file = texts.parent / "shuffled.txt"
    write_shuffled(file, [texts], 10_000)
    written = file.read_text(encoding="utf-8").split("\n\n")[:-1]
    rounds = [written[start : start + len(PARAGRAPHS)] for start in range(0, len(written), len(PARAGRAPHS))]
    assert len(rounds) > 2
    assert all(Counter(part) <= Counter(PARAGRAPHS) for part in rounds)
    assert rounds[0] != PARAGRAPHS != rounds[1] != rounds[0]
    assert 0 <= file.stat().st_size - 10_000 < 100


@pytest.mark.slow
def test_a_file_of_that_size_is_measured_in_a_process_of_its_own(
    texts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--texts", str(texts), "--megabytes", "1", "--json"]) == 0
    figures = json.loads(capfd.readouterr().out)
    assert figures["text_mb"] == pytest.approx(1, abs=0.01)
    assert 20 < figures["peak_resident_mb"] < 300  # pytest and PyTorch, which this process holds, are not in it


def test_what_goes_wrong_there_is_said_once_and_its_status_is_the_commands(
    texts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (texts / "one.txt").unlink()
    (texts / "two.txt").write_text("a", encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["--texts", str(texts), "--megabytes", "0"])
    assert stopped.value.code == 2
    assert capfd.readouterr().err.count("\n") == 1
