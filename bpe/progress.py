"""One way to show progress: on a terminal, on stderr, and only for what takes more than two seconds."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(*, total: float | None = None, description: str = "", unit: str = "it", **options: Any) -> "tqdm[Any]":
    """A tqdm bar with rate and time left; silent when stderr is not a terminal and for the first two seconds."""
    defaults: dict[str, Any] = {"delay": 2, "disable": None, "dynamic_ncols": True, "file": sys.stderr}
    return tqdm(total=total, desc=description, unit=unit, **(defaults | options))
