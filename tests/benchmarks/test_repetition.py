"""The command that compares settings by how much stories repeat themselves, on a small run."""

import json

import pytest

from benchmarks.repetition import main
from model.originality import WORDS


def test_settings_stand_side_by_side_beside_people(run_and_pairs, capsys):
    settings = ["", "repeat_penalty=2 temperature=0.5"]
    assert (
        main([str(run_and_pairs), "--pairs", str(run_and_pairs), "--num", "9", "--json", "--settings", *settings]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["stories"] == 2  # one a prompt
    assert list(told["figures"]) == ["people", "defaults", settings[1]]
    assert told["figures"]["people"]["words"] < WORDS
    assert len({json.dumps(row) for row in told["figures"].values()}) == 3


@pytest.mark.parametrize("settings", ["wings=2", "top_k=x", "temperature"])
def test_what_is_no_setting_is_refused(run_and_pairs, capsys, settings):
    assert main([str(run_and_pairs), "--pairs", str(run_and_pairs), "--settings", settings]) == 2
    assert f"{settings!r} is no setting" in capsys.readouterr().err
