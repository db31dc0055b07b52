"""One measurement of one way to write, in a process of its own.

    python -m benchmarks.generation_tasks '{"work": "write", "way": "ours int8", "folder": PATH, "tokens": 256, ...}'

In: a Task as JSON.  Out: a line of JSON with what came of it.

Only a fresh process has threads and memory that no other library has touched. Imports, loading, and a first text that
is thrown away are not counted.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from bpe import Tokenizer
from data.layout import END
from model import load
from model.context import CachedContext, RecomputedContext
from model.folder import TOKENIZER
from model.story import Story, write_together
from model.story_settings import Sampling

Result = TypeVar("Result")

GREEDY = Sampling(temperature=0, repeat_penalty=1)
FIRST = 5  # times that the first token is waited for
WARM = 8  # tokens that are written before anything is timed
TEXT_TO_AGREE_ON = 64  # tokens, the prompt and random ones
BUFFER = 1 << 30  # bytes, beyond what caches hold
READINGS = 5  # of it in each way
COMMAND = Path(__file__).parents[1] / "LLM-Generate.py"

OURS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "float16": {"dtype": "float16"},
    "int8": {"quantize": "int8"},
    "int4": {"quantize": "int4"},
}
UNCACHED = "ours float32 without a cache"
GGUF = ("F32", "F16", "Q8_0", "Q4_0")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to do."""

    work: str  # a key of WORK
    way: str = ""  # to write: a key of WAYS; to compare: a key of LOGITS
    folder: str  # a model's, as training writes it; GGUF files, F32.gguf and so on, lie there too
    prompt: str
    tokens: int
    threads: int
    stories: int = 1  # at once
    sampled: bool = False  # with the defaults, story i with seed i, instead of taking the likeliest token


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came out."""

    first: float  # seconds from a prompt to the first token of every story
    rate: float  # tokens a second after that, of all stories together


Write = Callable[[int], int]  # at most so many tokens for each story -> how many were written, all told


def prompt_ids(task: Task) -> list[int]:
    """The prompt as a pretrained model of ours reads it."""
    tok = Tokenizer.load(Path(task.folder) / TOKENIZER)
    return [tok.special_tokens[END], *tok.encode(task.prompt)]


def ours(task: Task) -> Write:
    """As `generate` writes, which gives text and does not count tokens."""
    kind = task.way.split()[1]
    model, tok = load(task.folder, "cpu", **OURS[kind])
    reading = RecomputedContext if task.way == UNCACHED else CachedContext
    sampling = Sampling() if task.sampled else GREEDY

    def write(tokens: int) -> int:
        stories = [
            Story(model, tok, task.prompt, sampling=sampling, max_tokens=tokens, ending="cut", seed=seed)
            for seed in range(task.stories)
        ]
        for _ in write_together(stories, reading):
            pass
        return sum(len(story.tokens) for story in stories)

    return write


def transformers(task: Task) -> Write:
    peer: Any = import_module("transformers")
    dtype = getattr(torch, task.way.split()[1])
    model = peer.AutoModelForCausalLM.from_pretrained(task.folder, dtype=dtype)
    ids = torch.tensor([prompt_ids(task)])
    model.generation_config = peer.GenerationConfig(do_sample=False, use_cache=True, pad_token_id=0)

    @torch.inference_mode()
    def write(tokens: int) -> int:
        written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens)
        return int(written.size(1)) - ids.size(1)

    return write


def llama_cpp(task: Task) -> Write:
    llama, ids = open_gguf(task, task.way.split()[1]), prompt_ids(task)

    def write(tokens: int) -> int:
        llama.reset()  # or it would remember the prompt
        written = llama.generate(ids, temp=0.0, repeat_penalty=1.0)
        return sum(1 for _, _ in zip(range(tokens), written, strict=False))

    return write


def open_gguf(task: Task, kind: str, **options: Any) -> Any:
    peer: Any = import_module("llama_cpp")
    room, threads = len(prompt_ids(task)) + max(task.tokens, TEXT_TO_AGREE_ON), task.threads
    path = str(Path(task.folder) / f"{kind}.gguf")
    return peer.Llama(path, n_ctx=room, n_threads=threads, n_threads_batch=threads, verbose=False, **options)


WAYS: dict[str, Callable[[Task], Write]] = {
    **{f"ours {kind}": ours for kind in OURS},
    UNCACHED: ours,
    **{f"transformers {kind}": transformers for kind in ("float32", "bfloat16")},
    **{f"llama.cpp {kind}": llama_cpp for kind in GGUF},
}


def measure_writing(task: Task) -> dict[str, float]:
    """The first token, and all of them."""
    write = WAYS[task.way](task)
    write(WARM)
    first = statistics.median(seconds_of(lambda: write(1))[0] for _ in range(FIRST))
    whole, tokens = seconds_of(lambda: write(task.tokens))
    return asdict(Measured(first=first, rate=(tokens - task.stories) / (whole - first)))


def seconds_of(work: Callable[[], Result]) -> tuple[float, Result]:
    """How long it took, and what it gave."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def make_gguf(task: Task) -> dict[str, int]:
    """Write the GGUF files, the smaller ones with llama.cpp's own quantization; bytes of the weights in each."""
    from benchmarks.gguf_file import weight_bytes, write_gguf

    peer: Any = import_module("llama_cpp")
    paths = {kind: Path(task.folder) / f"{kind}.gguf" for kind in GGUF}
    write_gguf(Path(task.folder), paths["F32"])
    for kind in GGUF[1:]:
        how = peer.llama_model_quantize_default_params()
        how.ftype = getattr(peer, f"LLAMA_FTYPE_MOSTLY_{kind}")
        if peer.llama_model_quantize(str(paths["F32"]).encode(), str(paths[kind]).encode(), how):
            raise RuntimeError(f"llama.cpp could not make {paths[kind]}")
    return {kind: weight_bytes(path) for kind, path in paths.items()}


def difference(task: Task) -> float:
    """How far a peer's float32 logits are from ours at most, on the prompt and random tokens after it."""
    model, tok = load(task.folder, "cpu", "float32")
    chance = np.random.default_rng(0).integers(tok.vocab_size - len(tok.special_tokens), size=TEXT_TO_AGREE_ON)
    ids = [*prompt_ids(task), *chance.tolist()][:TEXT_TO_AGREE_ON]
    with torch.inference_mode():
        own = model(torch.tensor([ids]))[0].numpy()
    return float(np.abs(LOGITS[task.way](task, ids) - own).max())


def logits_of_transformers(task: Task, ids: list[int]) -> Any:
    peer: Any = import_module("transformers")
    with torch.inference_mode():
        model = peer.AutoModelForCausalLM.from_pretrained(task.folder, dtype=torch.float32)
        return model(torch.tensor([ids])).logits[0].numpy()


def logits_of_llama_cpp(task: Task, ids: list[int]) -> Any:
    llama = open_gguf(task, "F32", logits_all=True, type_k=0, type_v=0)  # keys and values in float32, as ours
    tok = Tokenizer.load(Path(task.folder) / TOKENIZER)
    if llama.tokenize(task.prompt.encode(), add_bos=False) != tok.encode(task.prompt):
        raise RuntimeError("llama.cpp cuts the prompt into other tokens")
    llama.eval(ids)
    return np.array(llama.eval_logits)


LOGITS = {"transformers": logits_of_transformers, "llama.cpp": logits_of_llama_cpp}


def read_bandwidth(task: Task) -> float:
    """Bytes a second that all threads together read of a large tensor: the best of several ways."""
    matrix = torch.ones(BUFFER // 4 // 1024, 1024)
    vector, half = torch.ones(1024), torch.ones(BUFFER // 2 // 1024, 1024, dtype=torch.bfloat16)
    ways: list[Callable[[], object]] = [
        matrix.sum,
        matrix.view(torch.int32).max,
        lambda: matrix @ vector,
        lambda: half @ vector.bfloat16(),
        lambda: half.view(torch.int32).max(),
    ]
    return max(BUFFER / seconds_of(read)[0] for read in ways for _ in range(READINGS))


def starting(task: Task) -> dict[str, float]:
    """Seconds that a fresh interpreter needs to import torch, and the command for the first token of a story."""
    how = ["--max-tokens", "1", "--ending", "cut", "--seed", "1", "--device", "cpu"]
    story = [str(COMMAND), task.prompt, "--run", task.folder, *how]
    return {"import torch": seconds_to_run("-c", "import torch"), "first token": seconds_to_run(*story)}


def seconds_to_run(*arguments: str) -> float:
    """How long a fresh interpreter takes."""
    return seconds_of(lambda: subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True))[0]


WORK: dict[str, Callable[[Task], Any]] = {
    "write": measure_writing,
    "gguf": make_gguf,
    "compare": difference,
    "read": read_bandwidth,
    "start": starting,
}

if __name__ == "__main__":
    wanted = Task(**json.loads(sys.argv[1]))
    torch.set_num_threads(wanted.threads)
    print(json.dumps(WORK[wanted.work](wanted)))
