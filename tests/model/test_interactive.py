"""Laws of a writing session: what its commands do to the stories, and that nothing typed ends it but :quit."""

import io
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

import model.story
from bpe.command import OutputError
from model.interactive import Session
from model.story import Story
from model.story_settings import Sampling


@pytest.fixture
def session(perturbed, config, tok, capsys, monkeypatch) -> Callable[..., tuple[Session, str, list[str]]]:
    """A function from typed lines to the session they made, its stdout, and its notes, a list of lines."""

    def run(*lines: str, first_prompt: str = "") -> tuple[Session, str, list[str]]:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))
        shown: list[str] = []
        made = Session(
            perturbed(config), tok, sampling=Sampling(), max_tokens=9, ending="cut", seed=5, show=shown.append
        )
        made.run(first_prompt)
        return made, "".join(shown), capsys.readouterr().err.splitlines()

    return run


@pytest.fixture
def story(perturbed, config, tok) -> Callable[..., str]:
    """A function from a prompt and a seed to the story that a session writes for them."""

    def write(prompt: str, seed: int, **options) -> str:
        return "".join(
            Story(perturbed(config), tok, prompt, seed=seed, **({"max_tokens": 9, "ending": "cut"} | options))
        )

    return write


def test_every_prompt_gets_a_story_of_the_next_seed(session, story):
    made, shown, said = session("the cat", "", "  ", "the mat", ":quit", "the hat", first_prompt="the hat")
    stories = [story("the hat", 5), story("the cat", 6), story("the mat", 7)]
    assert shown == "".join(f"{text}\n\n" for text in stories)
    assert [(told.prompt, told.text) for told in made.stories] == list(
        zip(["the hat", "the cat", "the mat"], stories, strict=True)
    )
    assert [line.partition(", seed ")[2] for line in said] == [
        f"{seed}, at max_tokens; :continue goes on]" for seed in (5, 6, 7)
    ]


def test_continue_goes_on_with_the_story_as_it_stands(session, story):
    made, shown, _ = session("the mat", "the cat", ":continue", ":continue")
    parts = [story("the cat", 6)]
    for seed in (7, 8):
        parts.append(story("the cat", seed, so_far="".join(parts)))
    assert made.stories[1].text == "".join(parts)
    assert shown.endswith("".join(f"{part}\n\n" for part in parts))
    assert made.stories[0].text == story("the mat", 5)


def test_retry_writes_the_last_part_anew(session, story):
    made, _, _ = session("the cat", ":retry")
    assert [told.text for told in made.stories] == [story("the cat", 6)]
    made, _, _ = session("the cat", ":continue", ":retry", ":retry")
    first = story("the cat", 5)
    assert [told.text for told in made.stories] == [first + story("the cat", 8, so_far=first)]


def test_undo_takes_back_one_writing_after_the_other_a_retry_too(session, story):
    lines = ["the cat", ":continue", ":retry", "the mat"]
    after = [session(*lines[:count])[0].stories for count in range(len(lines) + 1)]
    for undone in range(1, len(lines) + 1):
        made, _, said = session(*lines, *[":undo"] * undone)
        assert made.stories == after[len(lines) - undone]
    assert said[-1] == "taken back; there is no story now"
    assert said[-2] == f"taken back; the story now ends: ...{' '.join(story('the cat', 5).split())[-60:]}"
    assert session(*lines, *[":undo"] * 5)[2][-1].startswith("there is no story to undo")


def test_an_undone_story_does_not_bring_its_seed_back(session, story):
    assert session("the cat", ":undo", "the cat")[0].stories[0].text == story("the cat", 6) != story("the cat", 5)


def test_settings_hold_from_the_next_writing_on(session, story):
    lines = [":set temperature 0", ":set max-tokens 3", ":set ending trim", ":set top_k 7", ":set seed 9", ":set"]
    _, shown, said = session(*lines, "the cat")
    sampling = Sampling(temperature=0.0, top_k=7)
    assert shown == story("the cat", 9, sampling=sampling, max_tokens=3, ending="trim") + "\n\n"
    assert said[:5] == ["temperature 0.0", "max_tokens 3", "ending trim", "top_k 7", "seed 9"]
    everything = asdict(sampling) | {"max_tokens": 3, "ending": "trim", "seed": 9}
    assert said[5] == "  ".join(f"{name} {value}" for name, value in everything.items())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (":set wings 2", ["no setting wings", "temperature"]),
        (":set top-k x", ["top_k is a whole number", "'x'"]),
        (":set top-p x", ["top_p is a number", "'x'"]),
        (":set temperature -1", ["temperature -1.0"]),
        (":set temperature inf", ["temperature inf"]),
        (":set max-tokens 0", ["max-tokens 0"]),
        (":set ending never", ["never", "finish, trim, cut"]),
        (":set seed -1", ["seed -1"]),
        (":set top-k", [":help"]),
        (":nonsense", [":nonsense", ":help"]),
        (":", [":help"]),
        (":quit now", [":help"]),
        (":save", [":help"]),
        (":save stories.txt", ["no story to save", "type a prompt"]),
        (":continue", ["no story to continue", "type a prompt"]),
        (":retry", ["no story to retry"]),
        (":undo", ["no story to undo"]),
        ("the \udcff", ["position 4"]),
        ("na\N{REPLACEMENT CHARACTER}f", ["not UTF-8", "iconv"]),  # as it is read from a pipe
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(session, story, line, words):
    made, shown, said = session(line, "the cat")
    assert len(said) == 2
    for word in words:
        assert word in said[0]
    assert shown == story("the cat", 5) + "\n\n"
    assert made.settings() == session("the cat")[0].settings()


def test_stories_are_saved_each_below_its_prompt_and_again_to_the_same_file(session, story, tmp_path):
    path = tmp_path / "my stories.txt"
    first = story("the cat", 5)
    _, _, said = session("the cat", f":save {path}", ":continue", "the mat", f":save '{path}'")
    text = first + story("the cat", 6, so_far=first)
    assert path.read_text(encoding="utf-8") == f"the cat\n\n{text}\n\n---\n\nthe mat\n\n{story('the mat', 7)}\n"
    assert said[-1] == f"2 stories written to {path}"


def test_a_file_of_another_session_is_never_overwritten(session, tmp_path):
    path = tmp_path / "old.txt"
    path.write_text("a novel", encoding="utf-8")
    _, _, said = session("the cat", f":save {path}", f":save {tmp_path}", f":save {path / 'in a file'}")
    assert path.read_text(encoding="utf-8") == "a novel"
    assert [line.split(";")[0] for line in said[1:3]] == [
        f"{wrong} exists already and would be lost" for wrong in (path, tmp_path)
    ]
    assert said[3].startswith(f"cannot write {path / 'in a file'}")


@pytest.mark.parametrize("name", ["n" * 300, "no\0name", "~nobody-here/stories.txt"])
def test_a_name_that_no_file_can_have_is_one_line_and_the_stories_stay(session, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    made, _, said = session("the cat", f":save {name}")
    assert said[1].startswith("cannot write ")
    assert name[:3] in said[1]
    assert len(made.stories) == 1
    assert not [*tmp_path.iterdir()]


def test_stories_that_begin_with_their_prompt_are_saved_without_it(perturbed, config, tok, tmp_path, monkeypatch):
    pretrained = perturbed(config)
    pretrained.stage = "pretrain"
    made = Session(pretrained, tok, sampling=Sampling(), max_tokens=9, ending="cut", seed=5, show=lambda _: None)
    made.obey("the cat")
    made.obey(f":save {tmp_path / 'stories.txt'}")
    told = "".join(Story(pretrained, tok, "the cat", seed=5, max_tokens=9, ending="cut"))
    assert told.startswith("the cat")
    assert (tmp_path / "stories.txt").read_text(encoding="utf-8") == told + "\n"


def test_stories_that_nobody_can_see_end_the_session(perturbed, config, tok, monkeypatch):
    def full(_: str) -> None:
        raise OutputError

    monkeypatch.setattr(sys, "stdin", io.StringIO("the cat\nthe mat\n"))
    made = Session(perturbed(config), tok, sampling=Sampling(), max_tokens=9, ending="cut", seed=5, show=full)
    with pytest.raises(OutputError):
        made.run("")
    assert sys.stdin.read() == "the mat\n"


def test_ctrl_c_stops_the_story_which_stays_and_can_be_gone_on_with(session, story, monkeypatch):
    real, left = model.story.next_token, [4]

    def interrupt_the_fourth(*arguments: object, **options: object) -> int:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr("model.story.next_token", interrupt_the_fourth)
    made, shown, said = session("the cat", ":continue")
    beginning = story("the cat", 5, max_tokens=3)
    assert shown == f"{beginning}\n\n{story('the cat', 6, so_far=beginning)}\n\n"
    assert made.stories[0].text == shown.replace("\n\n", "")
    assert said[0].endswith("seed 5, stopped]")
    assert said[0].startswith("[3 tokens")


def test_ctrl_c_at_the_prompt_ends_nothing(session, monkeypatch):
    lines = iter(["the cat", KeyboardInterrupt, "the mat", None])

    def next_line() -> str | None:
        line = next(lines)
        if line is KeyboardInterrupt:
            raise KeyboardInterrupt
        return line

    monkeypatch.setattr("model.interactive.next_line", next_line)
    assert [told.prompt for told in session()[0].stories] == ["the cat", "the mat"]


def test_help_lists_every_command(session, tmp_path: Path):
    _, _, said = session(":help")
    told = " ".join(said)
    for name in ("continue", "retry", "undo", "set", "save", "quit", "help"):
        assert f" :{name} " in told
        command = f":save {tmp_path / 'stories.txt'}" if name == "save" else f":{name}"
        assert "understood" not in " ".join(session("the cat", command)[2])


def test_a_prompt_too_long_is_said_to_be_once(session):
    _, _, said = session("the cat sat on the mat " * 9, ":continue")
    assert ["too long" in line for line in said] == [True, False, False]
