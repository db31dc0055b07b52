"""The command LLM-Generate.py: its contract with people and with other programs."""

import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

from bpe import Tokenizer
from data.layout import SPECIAL_TOKENS
from model import load
from model.build import build
from model.config import ModelConfig
from model.folder import save_folder
from model.run import RunFolder
from model.story import Story
from model.story_settings import MAX_TOKENS, Sampling

ROOT = Path(__file__).resolve().parents[2]
DOOR = runpy.run_path(str(ROOT / "LLM-Generate.py"))
TEXT = "the ship sank and the man swam to the shore, where the woman held the child; naïve snow ☃ fell — the end. " * 3
SHORT = ("--max-tokens", "12")


def train_nothing(run: Path, stage: str = "finetune", seed: int = 0) -> Path:
    """A run whose stage holds random weights and a small tokenizer, with its hashes recorded."""
    tok = Tokenizer.train([TEXT], vocab_size=300 + seed, special_tokens=SPECIAL_TOKENS)
    torch.manual_seed(seed)
    sizes = {"layers": 1, "width": 64, "heads": 2, "kv_heads": 1, "hidden": 64, "head_size": 32, "context": 32}
    model = build(ModelConfig(vocab_size=tok.vocab_size, **sizes))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    folder = RunFolder(run)
    with folder.writing(run / stage):
        save_folder(run / stage, model.state_dict(), model.config, tok, stage=stage)
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_nothing(tmp_path_factory.mktemp("runs") / "story")


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A run to damage."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


@pytest.fixture
def main(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command on some arguments: its exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = DOOR["main"]([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def assert_one_line(outcome: tuple[int, str, str], *words: str) -> None:
    status, out, err = outcome
    assert (status, out) == (2, "")
    assert err.startswith("LLM-Generate: ")
    assert err.count("\n") == 1 == err.endswith("\n")
    for word in words:
        assert word in err


def test_stdout_is_the_story_and_nothing_else(main, trained):
    status, out, err = main("the man", "--run", trained, "--seed", 1, *SHORT)
    model, tok = load(trained / "finetune", device="cpu")
    assert (status, out, err) == (0, "".join(Story(model, tok, "the man", seed=1, max_tokens=12)) + "\n", "")


def test_every_option_of_sampling_reaches_the_story(main, trained):
    options = {"temperature": 1.5, "top_k": 50, "top_p": 0.95, "min_p": 0.01, "repeat_penalty": 1.3}
    arguments = [text for name, value in options.items() for text in ("--" + name.replace("_", "-"), value)]
    _, out, _ = main("the man", "--run", trained, "--json", "--seed", 1, *SHORT, *arguments)
    assert json.loads(out)["settings"] == options | {"max_tokens": 12}


def test_the_defaults_that_help_states_are_the_models(main, trained, capsys, monkeypatch):
    monkeypatch.setattr("model.story.MAX_TOKENS", 5)
    _, out, _ = main("the man", "--run", trained, "--json")
    assert json.loads(out)["settings"] == asdict(Sampling()) | {"max_tokens": 5}
    with pytest.raises(SystemExit):
        main("--help")
    said = " ".join(capsys.readouterr().out.split())
    for name in ("temperature", "top_k", "top_p", "min_p", "repeat_penalty"):
        after = said.split(f"--{name.replace('_', '-')} ")[2]  # the first stands in the usage line
        assert f"(default {getattr(Sampling(), name):g})" in after.split(" --")[0]
    assert f"(default {MAX_TOKENS})" in said


def test_words_of_a_prompt_need_no_quotes(main, trained):
    one = main("the man", "--run", trained, "--seed", 1, *SHORT)
    assert main("the", "man", "--run", trained, "--seed", 1, *SHORT) == one


def test_a_seed_chosen_by_chance_is_told_and_repeats_the_story(main, trained):
    _, out, err = main("the man", "--run", trained, *SHORT)
    assert err.startswith("LLM-Generate: the seed is ")
    assert main("the man", "--run", trained, "--seed", err.split()[-1], *SHORT)[1] == out


def test_story_i_of_several_has_seed_s_plus_i_and_a_line_stands_between(main, trained):
    _, out, _ = main("the man", "--run", trained, "--seed", 7, "--num", 3, *SHORT)
    alone = [main("the man", "--run", trained, "--seed", seed, *SHORT)[1] for seed in (7, 8, 9)]
    assert out == "\n---\n\n".join(alone)
    assert len(set(alone)) == 3


def test_json_gives_one_object_for_each_story(main, trained):
    status, out, _ = main("  the\nman", "--run", trained, "--seed", 7, "--num", 2, "--json", *SHORT)
    stories = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [story["seed"] for story in stories] == [7, 8]
    for story in stories:
        assert list(story) == ["prompt", "story", "seed", "tokens", "seconds", "stopped", "settings"]
        assert story["prompt"] == "the man"
        assert (story["stopped"], story["tokens"] == 12) in {("length", True), ("end", False)}
        assert main("the man", "--run", trained, "--seed", story["seed"], *SHORT)[1] == story["story"] + "\n"


@pytest.mark.parametrize("prompt", ["", "<|story|> the <|endoftext|>", "лодка тонет 沈む船 ☃", "the man " * 2_000])
def test_any_prompt_gets_a_story(main, trained, prompt):
    status, out, err = main(prompt, "--run", trained, "--seed", 1, *SHORT)
    assert status == 0
    assert out.strip() or len(out) > 1
    assert "shortened" in err if len(prompt) > 1_000 else err.count("\n") <= 1


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_quantized_weights_write_stories(main, trained, kind):
    status, out, _ = main("the man", "--run", trained, "--seed", 1, "--quantize", kind, *SHORT)
    assert (status, out.endswith("\n")) == (0, True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_number_format_writes_stories(main, trained, dtype):
    assert main("the man", "--run", trained, "--device", "cpu", "--dtype", dtype, *SHORT)[0] == 0


def test_without_a_run_it_takes_the_story_run_else_the_newest_and_says_which(main, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_one_line(main("the man"), "make story")
    for age, name in enumerate(["new", "old", "older"]):
        weights = train_nothing(Path("runs") / name, "pretrain") / "pretrain" / "model.safetensors"
        os.utime(weights, (1e9 - age, 1e9 - age))
    assert f"the model is {Path('runs/new/pretrain')}\n" in main("the man", *SHORT)[2]
    train_nothing(Path("runs/old"), "finetune", seed=1)
    assert f"the model is {Path('runs/old/finetune')}\n" in main("the man", *SHORT)[2]
    os.utime(train_nothing(Path("runs/story"), "pretrain") / "pretrain" / "model.safetensors", (1, 1))
    assert f"the model is {Path('runs/story/pretrain')}\n" in main("the man", *SHORT)[2]


def test_a_pretrained_model_goes_on_with_the_prompt(main, tmp_path):
    run = train_nothing(tmp_path / "run", "pretrain")
    status, out, _ = main("the man swam", "--run", run, "--seed", 1, *SHORT)
    assert status == 0
    assert out.startswith("the man swam")
    assert main("the man swam", "--run", run / "pretrain", "--seed", 1, *SHORT)[1] == out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no prompt", "--interactive"]),
        (["the man", "--wings", "2"], ["--wings"]),
        (["the man", "--top-k", "many"], ["--top-k", "many"]),
        (["the man", "--seed"], ["--seed"]),
        (["the man", "--temperature", "-1"], ["temperature -1.0"]),
        (["the man", "--temperature", "nan"], ["temperature nan"]),
        (["the man", "--temperature", "inf"], ["temperature inf"]),
        (["the man", "--top-k", "-1"], ["top-k -1"]),
        (["the man", "--top-p", "0"], ["top-p 0"]),
        (["the man", "--top-p", "1.5"], ["top-p 1.5"]),
        (["the man", "--min-p", "-0.1"], ["min-p -0.1"]),
        (["the man", "--repeat-penalty", "0.5"], ["repeat penalty 0.5"]),
        (["the man", "--num", "0"], ["--num 0"]),
        (["the man", "--max-tokens", "0"], ["max-tokens 0"]),
        (["the man", "--seed", "-1"], ["seed -1"]),
        (["the man", "--num", "2", "--seed", str(2**63 - 1)], ["seed 9223372036854775808"]),
        (["the man", "--device", "abacus"], ["abacus"]),
        (["the man", "--dtype", "float7"], ["float7", "float32"]),
        (["the man", "--quantize", "int2"], ["int2", "int8"]),
        (["the \udcff man"], ["position 4"]),
        (["--interactive", "--json"], ["--json"]),
        (["--interactive", "--num", "2"], ["--num"]),
    ],
)
def test_wrong_use_is_one_line_that_names_it(main, trained, arguments, words):
    assert_one_line(main(*arguments, *([] if "--seed" in arguments[-1:] else ["--run", trained])), *words)


def test_a_run_that_is_not_there_or_has_no_stage_yet_is_one_line(main, tmp_path):
    assert_one_line(main("the man", "--run", tmp_path / "nowhere"), "nowhere", "make story")
    (tmp_path / "run" / "pretrain").mkdir(parents=True)
    assert_one_line(main("the man", "--run", tmp_path / "run"), "no trained stage yet", "LLM-BPE.py --stage pretrain")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_damaged_or_missing_file_is_one_line_that_names_it(main, copy, name, recorded):
    file = copy / "finetune" / name
    if not recorded:  # as in a folder that was copied without its run
        (copy / "run.json").unlink()
    file.write_bytes(file.read_bytes()[:-100])
    assert_one_line(main("the man", "--run", copy), name)
    file.write_bytes(b"\xff\x00 no such thing")
    assert_one_line(main("the man", "--run", copy), name)
    file.unlink()
    assert_one_line(main("the man", "--run", copy / "finetune"), name)


def test_a_file_that_was_changed_is_named(main, copy):
    config = copy / "finetune" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert_one_line(main("the man", "--run", copy), "config.json was changed")


def test_a_tokenizer_of_another_run_is_refused_with_both_fingerprints(main, copy, tmp_path):
    other = train_nothing(tmp_path / "other", seed=1)
    (copy / "run.json").unlink()
    other_tokenizer = Tokenizer.train([TEXT.replace("man", "dog")], vocab_size=300, special_tokens=SPECIAL_TOKENS)
    other_tokenizer.save(copy / "finetune" / "tokenizer.json")
    own = Tokenizer.load(other.parent / "copy" / "finetune" / "tokenizer.json")
    assert_one_line(main("the man", "--run", copy), own.fingerprint, other_tokenizer.fingerprint)


def test_ctrl_c_stops_with_status_130_and_no_traceback(main, trained, monkeypatch):
    def interrupt(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("model.story.next_token", interrupt)
    status, _, err = main("the man", "--run", trained, "--seed", 1)
    assert (status, err.strip()) == (130, "")


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))


def test_a_session_writes_a_story_for_each_line_of_a_pipe(main, trained, monkeypatch):
    typed(monkeypatch, "the man", "", "the ship", ":again", ":quit", "never read")
    status, out, _ = main("--interactive", "--run", trained, "--seed", 5, *SHORT)
    prompts = ["the man", "the ship", "the ship"]
    alone = [main(prompt, "--run", trained, "--seed", 5 + i, *SHORT)[1] for i, prompt in enumerate(prompts)]
    assert (status, out) == (0, "".join(story + "\n" for story in alone))


def test_a_session_begins_with_the_prompt_of_the_command_line(main, trained, monkeypatch):
    typed(monkeypatch)
    _, out, _ = main("the man", "--interactive", "--run", trained, "--seed", 5, *SHORT)
    assert out == main("the man", "--run", trained, "--seed", 5, *SHORT)[1] + "\n"


def test_a_session_changes_settings_and_survives_mistakes(main, trained, monkeypatch):
    mistakes = [":set wings 2", ":set top-k x", ":set temperature -1", ":set seed -1", ":nonsense", ":again", ':save "']
    typed(monkeypatch, *mistakes, ":set temperature 0", ":set max-tokens 3", ":set seed 9", ":set", "the man")
    status, out, err = main("--interactive", "--run", trained, "--seed", 5)
    assert status == 0
    said = err.splitlines()
    for mistake, answer in zip(
        ["wings", "'x'", "-1.0", "-1", ":nonsense", "no story yet", "quotation"], said, strict=False
    ):
        assert mistake in answer
    assert "temperature 0.0  top_k 0  top_p 1.0  min_p 0.05  repeat_penalty 1.1  max_tokens 3  seed 9" in said
    alone = main("the man", "--run", trained, "--seed", 9, "--temperature", 0, "--max-tokens", 3)[1]
    assert out == alone + "\n"


def test_a_session_saves_its_stories_each_below_its_prompt(main, trained, monkeypatch, tmp_path):
    typed(monkeypatch, "the man", "the ship", f":save '{tmp_path / 'my stories.txt'}'", f":save '{tmp_path}'")
    _, _, err = main("--interactive", "--run", trained, "--seed", 5, *SHORT)
    alone = [
        main(prompt, "--run", trained, "--seed", 5 + i, *SHORT)[1] for i, prompt in enumerate(["the man", "the ship"])
    ]
    saved = (tmp_path / "my stories.txt").read_text(encoding="utf-8")
    assert saved == f"the man\n\n{alone[0]}\n---\n\nthe ship\n\n{alone[1]}"
    assert f"cannot write {tmp_path}" in err


def test_ctrl_c_in_a_session_stops_the_story_and_not_the_session(main, trained, monkeypatch):
    import model.story

    real, calls = model.story.next_token, []

    def interrupt_the_fourth(*arguments: object, end: int) -> int:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments, end=end)

    monkeypatch.setattr("model.story.next_token", interrupt_the_fourth)
    typed(monkeypatch, "the man", "the ship")
    status, _, err = main("--interactive", "--run", trained, "--seed", 5, *SHORT)
    assert status == 0
    assert err.startswith("[3 tokens")
    assert len(err.splitlines()) == 2


def test_help_and_wrong_use_answer_without_importing_torch():
    script = (
        "import runpy, sys\n"
        "main = runpy.run_path('LLM-Generate.py')['main']\n"
        "assert main([]) == main(['x', '--top-k', 'many']) == main(['x', '--num', '0']) == 2\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="pipes and /dev/full are POSIX's")
def test_a_closed_pipe_is_silent_a_full_disk_is_one_line_and_any_locale_will_do(main, trained):
    arguments = ["le naïf ☃", "--run", str(trained), "--seed", "1", *SHORT]
    command = [sys.executable, str(ROOT / "LLM-Generate.py"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as piped:
        piped.stdout.close()
        assert (piped.wait(), piped.stderr.read()) == (0, b"")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert_one_line((done.returncode, "", done.stderr), "No space left")
    ascii_only = os.environ | {
        "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONUTF8": "0",
        "PYTHONIOENCODING": "ascii",
    }
    written = subprocess.run(command, stdout=subprocess.PIPE, env=ascii_only, check=True).stdout
    assert written.decode("utf-8") == main(*arguments)[1]
