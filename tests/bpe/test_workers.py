"""Worker processes: they answer what they are sent, and go with their caller without a word."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bpe.words import count_pieces
from bpe.workers import Worker, WorkerEnded

ROOT = Path(__file__).resolve().parents[2]
CALLER = """
import time
from bpe.words import count_pieces
from bpe.workers import Worker
with Worker(count_pieces) as worker:
    try:
        print("started", flush=True)
        worker.send("qwen2")
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.5)  # for the worker to complain, if it will
        print("ended", flush=True)
"""


def ended(worker: Worker) -> bool:
    return worker._process.poll() is not None


def test_a_worker_answers_what_it_is_sent():
    with Worker(count_pieces) as worker:
        for message in ("a|b", "a", "bab\udcff"):
            worker.send(message)
        worker.send_no_more()
        assert worker.receive() == {"a": 2, "b": 2, "\udcff": 1}
        with pytest.raises(WorkerEnded):
            worker.receive()


def test_a_worker_is_gone_when_the_block_ends_however_it_ends():
    with pytest.raises(ZeroDivisionError), Worker(count_pieces) as worker:
        worker.send("qwen2")
        raise ZeroDivisionError
    assert ended(worker)


@pytest.mark.parametrize("way", ["send", "receive"])
def test_a_worker_that_is_killed_is_one_line(way):
    with Worker(count_pieces) as worker, pytest.raises(WorkerEnded, match=r"early end.*run again") as caught:
        worker._process.kill()
        worker._process.wait()
        worker.send("x" * 1_000_000) if way == "send" else worker.receive()
    assert "\n" not in str(caught.value)


def test_a_caller_needs_no_guard_in_its_script_and_no_luck_with_its_folder(tmp_path):
    (tmp_path / "bpe").mkdir()
    (tmp_path / "bpe" / "__init__.py").write_text("raise ImportError('another package of that name')")
    script = tmp_path / "scripts" / "train.py"
    script.parent.mkdir()
    script.write_text(
        "import bpe.words\nfrom bpe import Tokenizer\nbpe.words.COUNTED_HERE = 1\nprint('once')\n"
        "print(Tokenizer.train(['abab'] * 9, vocab_size=257, workers=2).merges)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("once\n[(97, 98)]\n", "")


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
def test_a_worker_goes_with_its_caller_without_a_word(signal_):
    """Both get the signal that a terminal sends, the worker while it still starts; stderr ends when both are gone."""
    with subprocess.Popen(
        [sys.executable, "-c", CALLER], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as caller:
        assert caller.stdout.readline() == b"started\n"
        os.killpg(caller.pid, signal_)
        out, err = caller.communicate(timeout=20)
    assert (out, err) == (b"ended\n" if signal_ == signal.SIGINT else b"", b"")
