"""The command that counts endings, on a small run."""

import json

import pytest

from benchmarks.endings import main
from model import load
from model.story import Story


def test_stories_that_end_by_themselves_are_counted(run_and_pairs, capsys):
    command = [str(run_and_pairs), "--pairs", str(run_and_pairs), "--max-tokens", "60", "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    model, tok = load(run_and_pairs, device="cpu")
    stories = [Story(model, tok, prompt, seed=i, max_tokens=60) for i, prompt in enumerate(["the ship", "the sea"])]
    for story in stories:
        "".join(story)
    assert told["stories"] == 2
    assert told["ended"] == sum(story.stopped == "end" for story in stories)
    assert told["tokens"] == sorted(len(story.tokens) for story in stories)


@pytest.mark.parametrize(("num", "said"), [("0", "--num 0 asks for no story"), ("-1", "--num -1 asks for no story")])
def test_no_story_cannot_be_asked_for(run_and_pairs, capsys, num, said):
    assert main([str(run_and_pairs), "--pairs", str(run_and_pairs), "--num", num]) == 2
    assert said in capsys.readouterr().err
