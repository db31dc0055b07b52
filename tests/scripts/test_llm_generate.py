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

from bpe import Tokenizer
from data.layout import SPECIAL_TOKENS
from model import load
from model.ending import ENDINGS
from model.story import Story
from model.story_settings import MAX_TOKENS, Sampling

ROOT = Path(__file__).resolve().parents[2]
DOOR = runpy.run_path(str(ROOT / "LLM-Generate.py"))
OTHER_TEXT = "a dog dug up a bone in the garden, and the cat looked on from the wall above it until the rain came. " * 3
SHORT = ("--max-tokens", "12")


@pytest.fixture(scope="session", autouse=True)
def loops_compiled(trained: Path) -> None:
    """Or the first story would be told to wait for them."""
    for how in ({}, {"dtype": "bfloat16"}, {"quantize": "int8"}):
        model, tok = load(trained / "finetune", "cpu", **how)
        list(Story(model, tok, "the man", max_tokens=2, ending="cut"))


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
    options = {"temperature": 1.5, "top_k": 50, "top_p": 0.95, "min_p": 0.01, "repeat_penalty": 1.3, "dry": 0.5}
    options |= {"max_tokens": 12, "ending": "trim"}
    arguments = [text for name, value in options.items() for text in ("--" + name.replace("_", "-"), value)]
    _, out, _ = main("the man", "--run", trained, "--json", "--seed", 1, *arguments)
    assert json.loads(out)["settings"] == options
    _, plain, _ = main("the man", "--run", trained, "--seed", 1, *arguments)
    assert plain == json.loads(out)["story"] + "\n"


def test_the_defaults_that_help_states_are_those_that_are_used(main, trained, capsys):
    _, out, _ = main("the man", "--run", trained, "--json")
    assert json.loads(out)["settings"] == asdict(Sampling()) | {"max_tokens": MAX_TOKENS, "ending": ENDINGS[0]}
    with pytest.raises(SystemExit):
        main("--help")
    said = " ".join(capsys.readouterr().out.split())
    for name, value in json.loads(out)["settings"].items():
        after = said.split(f"--{name.replace('_', '-')} ")[2]  # the first stands in the usage line
        assert f"(default {value if isinstance(value, str) else format(value, 'g')})" in after.split(" --")[0]


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
        assert story["stopped"] in ("length", "end")
        assert main("the man", "--run", trained, "--seed", story["seed"], *SHORT)[1] == story["story"] + "\n"


@pytest.mark.parametrize("prompt", ["", "<|story|> the <|endoftext|>", "лодка тонет 沈む船 ☃", "the man " * 50_000])
def test_any_prompt_gets_a_story(main, trained, prompt):
    status, out, err = main(prompt, "--run", trained, "--seed", 1, *SHORT)
    model, tok = load(trained / "finetune", device="cpu")
    assert (status, out) == (0, "".join(Story(model, tok, prompt, seed=1, max_tokens=12)) + "\n")
    assert "shortened" in err if len(prompt) > 1_000 else err.count("\n") <= 1


@pytest.mark.parametrize(
    "extreme",
    [
        ("--temperature", "0"),
        ("--temperature", "1e-300"),
        ("--temperature", "1e308"),
        ("--top-k", "9" * 30),
        ("--top-k", "1"),
        ("--top-p", "1e-300"),
        ("--min-p", "1"),
        ("--repeat-penalty", "1e308"),
        ("--max-tokens", "1"),
        ("--seed", str(2**63 - 1)),
    ],
)
def test_every_possible_value_of_a_setting_writes_a_story(main, trained, extreme):
    status, out, err = main("the man", "--run", trained, "--seed", 1, *SHORT, *extreme)
    assert (status, err) == (0, "")
    assert out.endswith("\n")
    assert "\N{REPLACEMENT CHARACTER}" not in out


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_quantized_weights_write_stories(main, trained, kind):
    status, out, _ = main("the man", "--run", trained, "--seed", 1, "--quantize", kind, *SHORT)
    model, tok = load(trained / "finetune", "cpu", quantize=kind)
    assert (status, out) == (0, "".join(Story(model, tok, "the man", seed=1, max_tokens=12)) + "\n")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_number_format_writes_stories(main, trained, dtype):
    status, out, _ = main("the man", "--run", trained, "--seed", 1, "--device", "cpu", "--dtype", dtype, *SHORT)
    model, tok = load(trained / "finetune", "cpu", dtype)
    assert (status, out) == (0, "".join(Story(model, tok, "the man", seed=1, max_tokens=12)) + "\n")


def test_want_of_memory_is_one_line(main, trained, monkeypatch):
    def no_room(*_: object, **__: object) -> int:
        raise MemoryError

    monkeypatch.setattr("model.story.next_token", no_room)
    assert_one_line(main("the man", "--run", trained, "--seed", 1), "no memory", "--quantize int8")


def test_without_a_run_it_takes_the_story_run_else_the_newest_and_says_which(
    main, train_nothing, tmp_path, monkeypatch
):
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


def test_a_pretrained_model_goes_on_with_the_prompt(main, train_nothing, tmp_path):
    run = train_nothing(tmp_path / "run", "pretrain")
    status, out, err = main("the man swam", "--run", run, "--seed", 1, *SHORT)
    assert (status, err) == (0, f"LLM-Generate: the model is {run / 'pretrain'}\n")
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
        (["the man", "--top-p", "nan"], ["top-p nan"]),
        (["the man", "--min-p", "-0.1"], ["min-p -0.1"]),
        (["the man", "--min-p", "1.5"], ["min-p 1.5"]),
        (["the man", "--min-p", "nan"], ["min-p nan"]),
        (["the man", "--repeat-penalty", "0.5"], ["repeat penalty 0.5"]),
        (["the man", "--repeat-penalty", "nan"], ["repeat penalty nan"]),
        (["the man", "--ending", "never"], ["--ending", "never", "finish"]),
        (["the man", "--prompt-file", "x.txt"], ["--prompt-file", "leave out"]),
        (["--interactive", "--prompt-file", "x.txt"], ["--prompt-file", "leave out"]),
        (["the man", "--num", "0"], ["--num 0"]),
        (["the man", "--num", "99999999999"], ["--num 99999999999", "10,000"]),
        (["the man", "--max-tokens", "0"], ["max-tokens 0"]),
        (["the man", "--seed", "-1"], ["seed -1"]),
        (["the man", "--seed", str(2**63)], ["seed 9223372036854775808"]),
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
    (tmp_path / "file").write_text("no run", encoding="utf-8")
    assert_one_line(main("the man", "--run", tmp_path / "file"), "is a file")
    for name in ("n" * 300, "no\0name"):
        assert_one_line(main("the man", "--run", tmp_path / name), "cannot look for a run")


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


def test_a_tokenizer_of_another_run_is_refused_with_both_fingerprints(main, train_nothing, copy, tmp_path):
    other = train_nothing(tmp_path / "other", seed=1)
    (copy / "run.json").unlink()
    other_tokenizer = Tokenizer.train([OTHER_TEXT], vocab_size=300, special_tokens=SPECIAL_TOKENS)
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


def test_a_session_is_given_the_settings_and_begins_with_the_prompt_of_the_command_line(main, trained, monkeypatch):
    typed(monkeypatch, ":set", "the ship")
    how = ("--run", trained, "--top-k", 9, "--ending", "cut", *SHORT)
    status, out, err = main("the man", "--interactive", "--seed", 5, *how)
    assert (status, out) == (
        0,
        "".join(main(f"the {what}", "--seed", 5 + i, *how)[1] + "\n" for i, what in enumerate(["man", "ship"])),
    )
    assert "top_k 9" in err
    assert "ending cut  seed 6" in err


def test_a_session_without_a_line_is_over(main, trained, monkeypatch):
    typed(monkeypatch)
    assert main("--interactive", "--run", trained) == (0, "", "")


PROMPTS = "the\fman\n\n  \nle naïf ☃\r\n"


def test_every_line_of_a_prompt_file_gets_its_stories_each_below_its_prompt(main, trained, tmp_path):
    (tmp_path / "prompts.txt").write_text(PROMPTS, encoding="utf-8-sig", newline="")
    arguments = ("--run", trained, "--num", 2, *SHORT)
    status, out, _ = main("--prompt-file", tmp_path / "prompts.txt", "--seed", 5, *arguments)
    pairs = [main("the man", "--seed", 5, *arguments)[1], main("le naïf ☃", "--seed", 7, *arguments)[1]]
    stories = [
        f"{prompt}\n\n{story}"
        for prompt, pair in zip(["the man", "le naïf ☃"], pairs, strict=True)
        for story in pair.split("\n---\n\n")
    ]
    assert (status, out.split("\n---\n\n")) == (0, stories)


def test_prompts_come_from_stdin_and_as_json_one_object_a_story(main, trained, monkeypatch):
    typed(monkeypatch, *PROMPTS.split("\n"))
    status, out, _ = main("--prompt-file", "-", "--run", trained, "--seed", 5, "--json", *SHORT)
    stories = [json.loads(line) for line in out.splitlines()]
    assert (status, [(story["prompt"], story["seed"]) for story in stories]) == (0, [("the man", 5), ("le naïf ☃", 6)])
    assert main("le naïf ☃", "--run", trained, "--seed", 6, *SHORT)[1] == stories[1]["story"] + "\n"


def test_stories_that_begin_with_their_prompt_do_not_show_it_twice(main, train_nothing, tmp_path, monkeypatch):
    run = train_nothing(tmp_path / "run", "pretrain")
    typed(monkeypatch, "the man swam")
    out = main("--prompt-file", "-", "--run", run, "--seed", 1, *SHORT)[1]
    assert out == main("the man swam", "--run", run, "--seed", 1, *SHORT)[1]
    assert out.count("the man swam") == 1


def test_a_prompt_file_that_gives_no_prompt_is_one_line(main, trained, monkeypatch, tmp_path):
    (tmp_path / "blank.txt").write_text(" \n\n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes("naïf".encode("latin-1"))
    assert_one_line(main("--prompt-file", tmp_path / "blank.txt", "--run", trained), "no prompt in", "blank.txt")
    assert_one_line(main("--prompt-file", tmp_path / "latin.txt", "--run", trained), "latin.txt", "byte 2", "iconv")
    stdin = io.TextIOWrapper(io.BytesIO("naïf".encode("latin-1")), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stdin)
    assert_one_line(main("--prompt-file", "-", "--run", trained), "stdin is not UTF-8", "iconv")
    assert_one_line(main("--prompt-file", tmp_path / "none.txt", "--run", trained), "cannot read", "none.txt")
    assert_one_line(main("--prompt-file", tmp_path, "--run", trained), "cannot read", str(tmp_path))
    typed(monkeypatch)
    assert_one_line(main("--prompt-file", "-", "--run", trained), "no prompt in stdin")
    (tmp_path / "mark.txt").write_text("\n", encoding="utf-8-sig")  # nothing but the mark that Windows puts first
    assert_one_line(main("--prompt-file", tmp_path / "mark.txt", "--run", trained), "no prompt in")


def test_the_stories_of_all_prompts_together_are_bounded(main, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(DOOR["run"].__globals__, "MOST", 4)
    (tmp_path / "prompts.txt").write_text("the man\nthe ship\n", encoding="utf-8")
    arguments = ("--prompt-file", tmp_path / "prompts.txt", "--run", trained, *SHORT)
    records = [json.loads(line) for line in main(*arguments, "--num", 2, "--seed", 7, "--json")[1].splitlines()]
    assert [(record["prompt"], record["seed"]) for record in records] == [
        ("the man", 7),
        ("the man", 8),
        ("the ship", 9),
        ("the ship", 10),
    ]
    assert_one_line(
        main(*arguments, "--num", 3), "2 prompts with --num 3 ask for more than 4 stories", "split the file"
    )


def test_prompts_too_long_are_counted(main, trained, monkeypatch):
    typed(monkeypatch, "the man", "the man " * 50_000, "the ship " * 99)
    status, out, err = main("--prompt-file", "-", "--run", trained, "--seed", 5, "--num", 2, *SHORT)
    assert len(out) < 9_000  # the long ones are not shown whole
    assert out.count("the man the man ...\n\n") == 2
    assert (status, err) == (
        0,
        "LLM-Generate: 2 of 3 prompts are too long and shortened: there is room for 16 tokens of a prompt\n",
    )


def test_help_and_wrong_use_answer_without_importing_torch():
    script = (
        "import runpy, sys\n"
        "main = runpy.run_path('LLM-Generate.py')['main']\n"
        "for wrong in (), ('--top-k', 'many'), ('--num', '0'), ('--max-tokens', '0'), ('--seed', '-1'):\n"
        "    assert main(['x', *wrong] if wrong else []) == 2\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
