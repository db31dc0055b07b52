"""Laws of writing several stories for a reader: together, and yet each in its turn."""

from collections.abc import Callable

import pytest

from model.ending import ENDINGS
from model.story import Story
from model.writing import in_turn, show_stories


@pytest.fixture
def stories(perturbed, config, tok) -> Callable[..., list[Story]]:
    """A function that makes stories of different lengths, the same each time."""
    model = perturbed(config)

    def make(count: int) -> list[Story]:
        return [
            Story(model, tok, "the cat " * i, seed=i, max_tokens=(7 * i) % 23 + 1, ending=ENDINGS[i % 3])
            for i in range(count)
        ]

    return make


@pytest.mark.parametrize("count", [1, 3, 12])
def test_every_story_is_what_it_is_alone_and_they_come_in_their_order(stories, count):
    together = ["".join(pieces) for pieces in in_turn(stories(count))]
    assert together == ["".join(story) for story in stories(count)]
    assert len(set(together)) == count


def test_the_first_story_is_shown_as_it_is_written_while_the_others_are_under_way(stories):
    ours = stories(3)
    ours[0].max_tokens = 300
    first = next(in_turn(ours))
    next(first)
    next(first)
    assert ours[0].stopped is None
    assert all(story.tokens for story in ours)


def test_a_line_stands_between_stories_and_none_after_the_last(stories):
    shown: list[str] = []
    show_stories(stories(3), shown.append, prompts=False)
    assert "".join(shown) == "\n---\n\n".join("".join(story) + "\n" for story in stories(3))
    shown.clear()
    show_stories(stories(3), shown.append, prompts=True)
    assert "".join(shown) == "\n---\n\n".join(f"{story.prompt}\n\n{''.join(story)}\n" for story in stories(3))
