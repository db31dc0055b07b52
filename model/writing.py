"""What a command does with stories: read prompts, write together, show each story in its turn or tell all about it.

In: a file of prompts, stories that are to be written.  Out: text, or one JSON object a story.
"""

import json
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten

from bpe.errors import FileError
from data.errors import CONVERT_IT, DataError
from model.story import NO_CHARACTER, Story, write_together

BETWEEN = "\n---\n\n"  # two stories
HEADING = 500  # characters of a prompt to show above its story, at most


def prompts_in(path: str) -> list[str]:
    """The prompts of a file, one a line, blank lines left out; `-` is stdin. Raises a UserError when there is none."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        text = text.removeprefix("\ufeff")  # which Windows puts first
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}; check its name and permissions") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start:,}); {CONVERT_IT}") from error
    if path == "-" and NO_CHARACTER in text:  # stdin is read so that it never fails
        raise DataError(f"stdin is not UTF-8; {CONVERT_IT}")
    prompts = [line for line in text.split("\n") if line.strip()]
    if not prompts:
        raise DataError(f"there is no prompt in {'stdin' if path == '-' else path}; put one on each line")
    return prompts


def in_turn(stories: Sequence[Story]) -> Iterator[Iterator[str]]:
    """Write the stories together; the pieces of the first as they come, then those of the second, and so on."""
    together = write_together(stories)
    waiting = [deque[str]() for _ in stories]

    def pieces(i: int) -> Iterator[str]:
        while waiting[i] or stories[i].stopped is None:
            if waiting[i]:
                yield waiting[i].popleft()
            elif piece := next(together, None):
                waiting[piece[0]].append(piece[1])

    return map(pieces, range(len(stories)))


def show_stories(stories: Sequence[Story], show: Callable[[str], None], *, prompts: bool) -> None:
    """Show the stories while they are written, a line between two of them.

    prompts: each below its prompt, shortened if need be, but for those that begin with it themselves.
    """
    for i, (story, pieces) in enumerate(zip(stories, in_turn(stories), strict=True)):
        if i:
            show(BETWEEN)
        if prompts and not story.beginning:
            show(f"{shorten(story.prompt, HEADING, placeholder=' ...')}\n\n")
        for piece in pieces:
            show(piece)
        show("\n")


def show_records(stories: Sequence[Story], show: Callable[[str], None]) -> None:
    """Show all about each story when it and those before it are finished, a JSON object on a line of its own."""
    for story, pieces in zip(stories, in_turn(stories), strict=True):
        record = {
            "prompt": story.prompt,
            "story": "".join(pieces),
            "seed": story.seed,
            "tokens": len(story.tokens),
            "seconds": round(story.seconds, 3),
            "stopped": story.stopped,
            "settings": asdict(story.sampling) | {"max_tokens": story.max_tokens, "ending": story.ending},
        }
        show(json.dumps(record, ensure_ascii=False) + "\n")
