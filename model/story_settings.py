"""How a story is to be written: the settings, what they are by default, and what they may be.

In: what a user asks for.  Out: checked values. No torch here, so that --help and mistakes are answered at once.
"""

import math
from dataclasses import dataclass

from model.ending import ENDINGS
from model.errors import ConfigError
from model.settings import MOST_SEED

MAX_TOKENS = 2_000  # about 1,500 words: nearly every story has ended before


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the next token is chosen; the defaults are meant for stories by a small model.

    A temperature a little under 1 leans towards what the model is sure of. Of the filters min-p alone is on: it asks
    for a share of the best token's probability, so it is strict where the model is certain (the ending of a word) and
    open where a story may turn anywhere; a fixed top-k or top-p is too loose for the one or too tight for the other.
    The mild repeat penalty asks for other words and hardly touches the small ones, which lead by more than that; DRY
    breaks loops, which a model that has learned to look back is ever surer of.
    Raises ConfigError when a value is impossible.
    """

    temperature: float = 0.8  # 0: always the most likely token
    top_k: int = 0  # keep the k most likely tokens; 0: off
    top_p: float = 1.0  # keep the fewest tokens that have this much probability together; 1: off
    min_p: float = 0.05  # drop tokens below this share of the best one's probability; 0: off
    repeat_penalty: float = 1.1  # how much a token of the last REPEAT_WINDOW loses; 1: off
    dry: float = 0.8  # how much a token loses that goes on with a run that stands there already; 0: off

    def __post_init__(self) -> None:
        if not (0 <= self.temperature < math.inf):
            raise ConfigError(
                f"temperature {self.temperature} is not a number from 0 up; 0.8 is usual, 0 always takes the best"
            )
        if self.top_k < 0:
            raise ConfigError(f"top-k {self.top_k} is negative; pass the number of tokens to keep, or 0 for all")
        if not (0 < self.top_p <= 1):
            raise ConfigError(f"top-p {self.top_p} is not above 0 and at most 1; 0.95 is usual, 1 turns it off")
        if not (0 <= self.min_p <= 1):
            raise ConfigError(f"min-p {self.min_p} is not between 0 and 1; 0.05 is usual, 0 turns it off")
        if not (1 <= self.repeat_penalty < math.inf):
            raise ConfigError(
                f"repeat penalty {self.repeat_penalty} is not a number from 1 up; 1.1 is usual, 1 turns it off"
            )
        if not (0 <= self.dry < math.inf):
            raise ConfigError(f"dry {self.dry} is not a number from 0 up; 0.8 is usual, 0 turns it off")


def check_limits(*, max_tokens: int = MAX_TOKENS, ending: str = ENDINGS[0], seed: int | None = None) -> None:
    """Raises ConfigError when a story cannot have one of these (model/story.py says what they are)."""
    if max_tokens < 1:
        raise ConfigError(f"max-tokens {max_tokens} leaves no room for a story; pass 1 or more")
    if ending not in ENDINGS:
        raise ConfigError(f"there is no ending {ending!r}; there are {', '.join(ENDINGS)}")
    if seed is not None and not 0 <= seed <= MOST_SEED:
        raise ConfigError(f"seed {seed} is not between 0 and 2**63 - 1; any number there will do")
