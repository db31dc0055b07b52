"""LLM-Generate.py at the ends of its streams: terminals, pipes, files without room, and any locale or code page."""

import contextlib
import io
import json
import os
import re
import runpy
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "LLM-Generate.py"
PROMPT = "le naïf ☃"
LOCALES = {
    "a code page of Windows": {"PYTHONIOENCODING": "cp1252"},
    "the C locale": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "ASCII and nothing else": {
        "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONUTF8": "0",
        "PYTHONIOENCODING": "ascii",
    },
}
posix = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals and /dev/full are POSIX's")


@pytest.fixture
def arguments(trained: Path) -> list[str]:
    return ["--run", str(trained), "--seed", "1", "--max-tokens", "40"]


@pytest.fixture
def story(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command writes for PROMPT."""
    assert runpy.run_path(str(SCRIPT))["main"]([PROMPT, *arguments]) == 0
    return capsys.readouterr().out


class Recorder(io.RawIOBase):
    """A pipe that keeps what each write brought."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self.writes.append(bytes(data))
        return len(data)


def test_every_write_is_whole_characters_and_comes_when_its_text_is_there(arguments, monkeypatch):
    pipe = Recorder()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(pipe), encoding="cp1252"))
    status = runpy.run_path(str(SCRIPT))["main"]([PROMPT, *arguments, "--ending", "cut"])
    assert status == 0
    assert len(pipe.writes) > 10  # not all at the end
    for write in pipe.writes:
        write.decode("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCALES)
def test_any_locale_and_code_page_will_do_for_prompts_and_stories(arguments, story, name):
    if os.name != "posix" and "C locale" in name:
        pytest.skip("locales are POSIX's")
    given = {"env": os.environ | LOCALES[name], "stdout": subprocess.PIPE, "check": True}
    if name == "a code page of Windows":
        command = [sys.executable, SCRIPT, "--prompt-file", "-", "--json", *arguments]
        written = subprocess.run(command, input=PROMPT.encode("utf-8"), **given).stdout.decode("utf-8")
        assert (json.loads(written)["prompt"], json.loads(written)["story"] + "\n") == (PROMPT, story)
    else:
        written = subprocess.run([sys.executable, SCRIPT, PROMPT, *arguments], **given).stdout.decode("utf-8")
        assert written == story


@posix
@pytest.mark.slow
def test_a_closed_pipe_is_silent_and_a_full_disk_is_one_line(arguments):
    command = [sys.executable, str(SCRIPT), PROMPT, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as piped:
        piped.stdout.close()
        assert (piped.wait(), piped.stderr.read()) == (0, b"")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("LLM-Generate: ")
    assert "No space left" in done.stderr


@posix
@pytest.mark.slow
def test_streams_that_are_closed_count_as_empty_and_as_read_by_nobody(arguments):
    def run(closed: str, *options: str) -> tuple[int, str, str]:
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, str(SCRIPT), *options, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
        return done.returncode, done.stdout, done.stderr

    status, out, err = run("<&-", "--prompt-file", "-")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "no prompt in stdin" in err
    assert run("<&-", "--interactive") == (0, "", "")
    assert run(">&-", PROMPT) == (0, "", "")
    assert run("2>&-", PROMPT, "--wings") == (2, "", "")


class Terminal:
    """A command on a terminal of its own, so that what is typed is edited, and Ctrl-C is a signal."""

    def __init__(self, *arguments: str, script: Path = SCRIPT) -> None:
        import fcntl
        import termios

        def prepare() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # where the tests run in the background it is ignored

        self.end, end_of_command = os.openpty()
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))  # lines, columns
        self.process = subprocess.Popen(
            [sys.executable, script, *arguments],
            stdin=end_of_command,
            stdout=end_of_command,
            stderr=end_of_command,
            start_new_session=True,
            preexec_fn=prepare,
            env=os.environ | {"TERM": "dumb"},
        )
        os.close(end_of_command)
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self.end, text.encode("utf-8"))

    def wait_for(self, text: str) -> str:
        """Read until the text has come; all that came before it."""
        while text.encode("utf-8") not in self.seen:
            self.read()
        before, _, self.seen = self.seen.partition(text.encode("utf-8"))
        return before.decode("utf-8", errors="replace")

    def read(self) -> None:
        assert select.select([self.end], [], [], 30)[0], f"nothing comes after {self.seen!r}"
        self.seen += os.read(self.end, 4096)

    def status(self) -> int:
        """Read to the end, for which a terminal may wait; the exit status."""
        with contextlib.suppress(OSError):  # EIO: Linux's end of file
            while os.read(self.end, 4096):
                pass
        return self.process.wait(30)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.end)


@posix
@pytest.mark.slow
def test_a_session_at_a_terminal_edits_lines_keeps_a_history_and_outlives_ctrl_c(trained: Path, tmp_path: Path):
    endless = ["--temperature", "0", "--max-tokens", "1000000", "--ending", "cut"]
    with contextlib.closing(Terminal("--interactive", "--run", str(trained), "--seed", "1", *endless)) as terminal:
        assert ":retry" in terminal.wait_for("> ")
        for line in ("the mx\x7fan", "\x10"):  # a backspace; Ctrl-P, the line before
            terminal.type(line + "\r")
            terminal.wait_for("\n")
            terminal.read()  # some of the story
            terminal.type("\x03")
            terminal.wait_for(", stopped]")
            terminal.wait_for("> ")
        terminal.type("x")
        terminal.wait_for("x")
        time.sleep(0.5)  # until it waits for the next key, on a busy machine too: a Ctrl-C just before that is not seen
        terminal.type("\x03")
        terminal.wait_for("> ")
        terminal.type(f":save {tmp_path / 'stories.txt'}\r")
        terminal.wait_for("2 stories written")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert terminal.status() == 0
    stories = (tmp_path / "stories.txt").read_text(encoding="utf-8").split("\n---\n\n")
    assert [story.split("\n\n")[0] for story in stories] == ["the man", "the man"]
    assert all(len(story) > len("the man\n\n\n") for story in stories)


TRAINING = (
    "--stage pretrain --dataset sample --preset nano --layers 1 --width 64 --vocab-size 400 --context 64 --steps 40"
)


@posix
@pytest.mark.slow
def test_a_training_shows_a_bar_on_a_terminal_and_lines_in_a_pipe(tmp_path: Path):
    training = [*TRAINING.split(), "--eval-every", "20", "--batch-tokens", "256", "--device", "cpu", "--run"]
    script = ROOT / "LLM-BPE.py"
    with contextlib.closing(Terminal(*training, str(tmp_path / "seen"), script=script)) as terminal:
        seen = terminal.wait_for("saved in ")
        assert terminal.status() == 0
    shown = [line for line in seen.replace("\n", "\r").split("\r") if "% " in line]
    assert any(
        re.search(r"\d% .*loss \d\.\d+, best \d\.\d+ bits/byte, [\d,]+ tokens/s, \d+:\d\d left", s) for s in shown
    )
    done = subprocess.run(
        [sys.executable, script, *training, str(tmp_path / "piped")], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert "\r" not in done.stderr
    assert "% " not in done.stderr
    assert [line.split()[1] for line in done.stderr.splitlines() if line.startswith("step ")] == ["0", "20", "40"]
    assert "next: python LLM-BPE.py --stage finetune" in done.stderr
