"""What holds for every test: the corpora, where they are at hand, and no time limit for an example."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("laws", deadline=None)  # how long an example takes depends on what else the machine does
settings.load_profile("laws")


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real corpora: $LLM_BPE_CORPORA, or ../shared/corpora beside the project; skips without one."""
    folder = Path(os.environ.get("LLM_BPE_CORPORA", ROOT.parent / "shared" / "corpora"))
    if not folder.is_dir():
        pytest.skip(f"needs the corpora, which are not at {folder} (set LLM_BPE_CORPORA)")
    return folder
