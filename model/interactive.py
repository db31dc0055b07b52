"""A writing session: prompts in, stories out, until :quit.

In: lines, typed or piped.  Out: stories on stdout; what is said about them on stderr.
"""

import contextlib
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from bpe import Tokenizer
from bpe.errors import UserError
from bpe.files import atomic_write
from model.errors import ConfigError
from model.language_model import LanguageModel
from model.story import Story
from model.story_settings import Sampling

HELP = """\
Type a prompt and Return for a story; Ctrl-C stops the story. Commands:
  :again             another story for the same prompt
  :set               show the settings        :set NAME VALUE   change one, such as :set temperature 0.9
  :save FILE         write the stories of this session to a file
  :quit              leave (or Ctrl-D)        :help             this"""


class Session:
    """What a writing session keeps: the settings, the last prompt and the stories so far.

    seed: of the first story; each further story takes the next number. show: writes a piece of story to stdout.
    """

    def __init__(
        self,
        model: LanguageModel,
        tok: Tokenizer,
        *,
        sampling: Sampling,
        max_tokens: int,
        seed: int,
        show: Callable[[str], None],
    ) -> None:
        self.model, self.tok = model, tok
        self.sampling, self.max_tokens, self.seed = sampling, max_tokens, seed
        self.show = show
        self.prompt: str | None = None
        self.stories: list[str] = []

    def run(self, first_prompt: str | None) -> None:
        """Write until the lines end or :quit is typed; Ctrl-C and mistakes end a line, never the session."""
        if sys.stdin.isatty():
            say(HELP)
        if first_prompt:
            self.write(first_prompt)
        going_on = True
        while going_on:
            try:
                line = next_line()
                going_on = line is not None and self.obey(line)
            except UserError as error:
                say(str(error))
            except KeyboardInterrupt:
                say("")

    def obey(self, line: str) -> bool:
        """Follow a command, write a story for a prompt, pass over a blank line; False when the session is to end."""
        if line.startswith(":"):
            return self.command(line[1:])
        if line.strip():
            self.write(line)
        return True

    def write(self, prompt: str) -> None:
        """Write one story for the prompt; Ctrl-C ends the story alone."""
        story = Story(self.model, self.tok, prompt, sampling=self.sampling, max_tokens=self.max_tokens, seed=self.seed)
        self.prompt = prompt
        self.seed += 1
        with contextlib.suppress(KeyboardInterrupt):
            for piece in story:
                self.show(piece)
        self.show("\n\n")
        say(f"[{len(story.tokens)} tokens, {story.seconds:.1f} s, seed {story.seed}]")
        self.stories.append(f"{prompt}\n\n{story.text}\n")

    def command(self, line: str) -> bool:
        """Obey a line after its colon; False when the session is to end."""
        try:
            name, *words = shlex.split(line) or [""]
        except ValueError as error:
            raise ConfigError(f":{line} cannot be read ({error}); close the quotation mark") from error
        match name, words:
            case "quit" | "q", []:
                return False
            case "help", []:
                say(HELP)
            case "again", [] if self.prompt is not None:
                self.write(self.prompt)
            case "again", []:
                raise ConfigError("there is no story yet; type a prompt first")
            case "set", []:
                say("  ".join(f"{name} {value}" for name, value in self.settings().items()))
            case "set", [setting, value]:
                self.set(setting.replace("-", "_"), value)
            case "save", [path]:
                self.save(path)
            case _:
                raise ConfigError(f"there is no command :{line}; :help lists them")
        return True

    def settings(self) -> dict[str, float]:
        """Every setting that :set can change, by name."""
        return asdict(self.sampling) | {"max_tokens": self.max_tokens, "seed": self.seed}

    def set(self, name: str, value: str) -> None:
        """Change one setting. Raises ConfigError for an unknown one or an impossible value; it then stays as it was."""
        if name not in self.settings():
            raise ConfigError(f"there is no setting {name}; there are {', '.join(self.settings())}")
        kind = type(self.settings()[name])
        try:
            number = kind(value)
        except ValueError as error:
            raise ConfigError(f"{name} is {'a whole' if kind is int else 'a'} number, not {value!r}") from error
        change: dict[str, Any] = {name: number}
        if name in ("max_tokens", "seed"):
            Story(self.model, self.tok, "", **change)  # only to check the value
            setattr(self, name, number)
        else:
            self.sampling = replace(self.sampling, **change)
        say(f"{name} {number}")

    def save(self, path: str) -> None:
        """Write the session's stories, each below its prompt. Raises FileError when the system refuses."""
        with atomic_write(path) as file:
            file.write("\n---\n\n".join(self.stories))
        say(f"{len(self.stories)} stories written to {path}")


def next_line() -> str | None:
    """The next line of stdin, None at its end; from a terminal with line editing and history, plain from a pipe."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        line = sys.stdin.readline()
        return line.removesuffix("\n") if line else None
    with contextlib.suppress(ImportError):  # Windows has no readline, and line editing of its own
        import readline  # noqa: F401
    try:
        return input("> ")
    except EOFError:
        return None


def say(text: str) -> None:
    """Tell the writer something that is no story."""
    print(text, file=sys.stderr, flush=True)
