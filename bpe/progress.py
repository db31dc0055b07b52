"""One way to show progress: on a terminal, on stderr, and only for what takes more than two seconds.

In: how much there is to do, and what it is called.  Out: a tqdm bar.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


def progress_bar(*, total: float | None = None, description: str = "", unit: str = "it", **options: Any) -> "tqdm[Any]":
    """A tqdm bar with rate and time left; silent when stderr is not a terminal and for the first two seconds."""
    from tqdm import tqdm  # here: it takes a third of the time of `import bpe`, and most programs never show a bar

    defaults: dict[str, Any] = {"delay": 2, "disable": None, "dynamic_ncols": True, "file": sys.stderr}
    return tqdm(total=total, desc=description, unit=unit, **(defaults | options))
