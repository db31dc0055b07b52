"""A writing session: prompts in, stories out, until :quit.

In: lines, typed or piped.  Out: stories on stdout; what is said about them on stderr.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bpe import Tokenizer
from bpe.command import OutputError
from bpe.errors import FileError, UserError
from bpe.files import atomic_write
from data.errors import CONVERT_IT, DataError
from model.ending import Ending
from model.errors import ConfigError
from model.language_model import LanguageModel
from model.story import NO_CHARACTER, Story
from model.story_settings import Sampling, check_limits
from model.writing import BETWEEN

HELP = """\
Type a prompt and Return for a story; Ctrl-C stops it. Commands:
  :continue         more of the story
  :retry            the story, or what :continue brought, written anew
  :undo             take back what was written last, then what was before that
  :set              show the settings
  :set NAME VALUE   change one, such as :set temperature 0.9
  :save FILE        write the stories of this session to a file
  :help             this
  :quit             leave, as Ctrl-D does"""
STOPPED = {"end": "", "length": ", at max_tokens; :continue goes on", None: ", stopped"}


@dataclass(frozen=True)
class Told:
    """A story as it stands: its prompt, its text, and how much of the text stood there before the last writing."""

    prompt: str
    text: str
    before: str = ""


class Session:
    """What a writing session keeps: the settings and the stories so far.

    seed: of the first story; whatever is written next takes the next number. show: writes a piece of story to stdout.
    """

    def __init__(
        self,
        model: LanguageModel,
        tok: Tokenizer,
        *,
        sampling: Sampling,
        max_tokens: int,
        ending: Ending,
        seed: int,
        show: Callable[[str], None],
    ) -> None:
        self.model, self.tok = model, tok
        self.sampling, self.max_tokens, self.ending, self.seed = sampling, max_tokens, ending, seed
        self.show = show
        self.stories: tuple[Told, ...] = ()
        self.past: list[tuple[Told, ...]] = []  # the stories before each writing: what :undo goes back to
        self.saved: set[Path] = set()

    def run(self, first_prompt: str) -> None:
        """Write until the lines end or :quit is typed; Ctrl-C and mistakes end a line, never the session.

        Raises OutputError where stories cannot be shown any more.
        """
        if sys.stdin.isatty():
            say(HELP)
        line: str | None = first_prompt
        while line is not None:
            try:
                line = next_line() if self.obey(line) else None
            except OutputError:
                raise
            except UserError as error:
                say(str(error))
                line = ""
            except KeyboardInterrupt:
                say("")
                line = ""

    def obey(self, line: str) -> bool:
        """Follow a command, write a story for a prompt, pass over a blank line; False when the session is to end."""
        if line.startswith(":"):
            return self.command(line[1:])
        if line.strip():
            self.write(self.stories, line)
        return True

    def command(self, line: str) -> bool:
        """Obey a line after its colon; False when the session is to end."""
        name, _, rest = line.strip().partition(" ")
        match name, rest.split():
            case "quit" | "q", []:
                return False
            case "help", []:
                say(HELP)
            case (("continue" | "retry" | "undo"), []) | ("save", [_, *_]) if not self.stories:
                raise ConfigError(f"there is no story to {name} yet; type a prompt first")
            case "continue", []:
                *others, story = self.stories
                self.write(others, story.prompt, story.text)
            case "retry", []:
                *others, story = self.stories
                self.write(others, story.prompt, story.before)
            case "undo", []:
                self.undo()
            case "set", []:
                say("  ".join(f"{name} {value}" for name, value in self.settings().items()))
            case "set", [setting, value]:
                self.set(setting.replace("-", "_"), value)
            case "save", [_, *_]:
                self.save(rest.strip().strip("'\""))
            case _:
                raise ConfigError(f":{line} is not understood; :help lists the commands")
        return True

    def write(self, others: Sequence[Told], prompt: str, so_far: str = "") -> None:
        """Write a story, or more of one, to stand behind these others; Ctrl-C ends the writing alone."""
        story = Story(
            self.model,
            self.tok,
            prompt,
            so_far=so_far,
            sampling=self.sampling,
            max_tokens=self.max_tokens,
            ending=self.ending,
            seed=self.seed,
        )
        if story.prompt_cut and not so_far:
            say(f"the prompt is too long and shortened: there is room for {story.room:,} tokens of it")
        self.seed += 1
        with contextlib.suppress(KeyboardInterrupt):
            for piece in story:
                self.show(piece)
        self.past.append(self.stories)
        self.stories = (*others, Told(story.prompt, so_far + story.text, so_far))
        self.show("\n\n")
        say(f"[{len(story.tokens)} tokens, {story.seconds:.1f} s, seed {story.seed}{STOPPED[story.stopped]}]")

    def undo(self) -> None:
        """Let the stories be what they were before the last writing."""
        self.stories = self.past.pop()
        if not self.stories:
            say("taken back; there is no story now")
        else:
            say(f"taken back; the story now ends: ...{' '.join(self.stories[-1].text.split())[-60:]}")

    def settings(self) -> dict[str, float | str]:
        """Every setting that :set can change, by name."""
        return asdict(self.sampling) | {"max_tokens": self.max_tokens, "ending": self.ending, "seed": self.seed}

    def set(self, name: str, value: str) -> None:
        """Change one setting. Raises ConfigError for an unknown one or an impossible value; it then stays as it was."""
        if name not in self.settings():
            raise ConfigError(f"there is no setting {name}; there are {', '.join(self.settings())}")
        kind = type(self.settings()[name])
        try:
            change: dict[str, Any] = {name: kind(value)}
        except ValueError as error:
            raise ConfigError(f"{name} is {'a whole' if kind is int else 'a'} number, not {value!r}") from error
        if hasattr(self.sampling, name):
            self.sampling = replace(self.sampling, **change)
        else:
            check_limits(**change)
            setattr(self, name, change[name])
        say(f"{name} {change[name]}")

    def save(self, name: str) -> None:
        """Write the session's stories, each below its prompt unless it begins with it.

        Raises FileError when there is another file already, or can be none of that name.
        """
        below = self.model.stage != "pretrain"
        texts = [f"{told.prompt}\n\n{told.text}\n" if below else f"{told.text}\n" for told in self.stories]
        try:
            path = Path(name).expanduser()
            if path not in self.saved and os.path.lexists(path):
                raise FileError(f"{path} exists already and would be lost; choose another name")
            with atomic_write(path) as file:
                file.write(BETWEEN.join(texts))
        except (RuntimeError, ValueError) as error:  # a home that nobody has, a character that no name can have
            raise FileError(f"cannot write {name}: {error}; choose another name") from error
        self.saved.add(path)
        say(f"{len(self.stories)} {'story' if len(self.stories) == 1 else 'stories'} written to {path}")


def next_line() -> str | None:
    """The next line of stdin, None at its end; from a terminal with line editing and history, plain from a pipe.

    Raises DataError for a line from a pipe that is not UTF-8.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        line = sys.stdin.readline()
        if NO_CHARACTER in line:  # stdin is read so that it never fails
            raise DataError(f"the line {line.strip()!r} is not UTF-8; {CONVERT_IT}")
        return line.removesuffix("\n") if line else None
    with contextlib.suppress(ImportError):  # Windows has no readline, and line editing of its own
        import readline  # noqa: F401
    try:
        return input("> ")
    except EOFError:
        say("")
        return None


def say(text: str) -> None:
    """Tell the writer something that is no story."""
    print(text, file=sys.stderr, flush=True)
