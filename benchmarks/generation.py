"""How fast stories are written, beside what memory allows, transformers and llama.cpp.

    python -m benchmarks.generation [--preset story] [--tokens 256] [--repeats 3] [--json]

In: a preset; its weights are random, and the same for all.  Out: medians of the rounds.

    first      milliseconds from a prompt of 16 tokens to the first token, the model loaded and warm
    tokens/s   from there to the last token; the likeliest is taken each time, but for the rows that say sampled
    of bound   tokens/s times the bytes of the weights, as a share of the bytes a second that memory gives
    times      our tokens/s divided by those it is held against

Each measurement runs in a process of its own (benchmarks/generation_tasks.py). A round measures every way once, one
after the other, so that a machine that is slower for a while is slower for all of them. Before, the logits of the
peers' models are held against ours. A peer that is not installed, or fails, is left out, and that is said.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.generation_tasks import OURS, UNCACHED, WAYS, Task
from benchmarks.random_run import random_prompt, save_random_run
from bpe import Tokenizer
from bpe.command import CommandParser, UsageError, run_command, show
from bpe.errors import UserError
from bpe.progress import progress_bar
from model.build import build
from model.config import ModelConfig, preset
from model.folder import TOKENIZER
from model.fused import FusedTransformer
from model.hardware import DTYPES
from model.quantize import quantize

PROMPT_TOKENS = 15  # and the one that every text begins with
TOGETHER = 8  # stories
TOLERANCE = 1e-3  # in logits: another order of float32 sums is far below, another model far above
PEERS = {"transformers": ["transformers"], "llama.cpp": ["llama_cpp", "gguf"]}  # the packages each needs


def sampled_row(kind: str) -> str:
    """The name of a row: one story, as the defaults draw it."""
    return f"ours {kind}, sampled"


def together_row(kind: str) -> str:
    """The name of a row: several such stories at once."""
    return f"ours {kind}, sampled, {TOGETHER} at once"


HELD_AGAINST = [
    ("ours float32", UNCACHED),
    ("ours float32", "transformers float32"),
    ("ours float32", "llama.cpp F32"),
    ("ours bfloat16", "transformers bfloat16"),
    ("ours bfloat16", "llama.cpp F16"),
    ("ours float16", "llama.cpp F16"),
    ("ours int8", "llama.cpp Q8_0"),
    ("ours int4", "llama.cpp Q4_0"),
    *((together_row(kind), sampled_row(kind)) for kind in OURS),
]


class Disagreement(UserError):
    """Two models that must be the same are not."""


class Failed(Exception):
    """A measurement that came to nothing; says why."""


def bytes_of_weights(shape: ModelConfig) -> dict[str, int]:
    """What each format of ours holds, which is read whole for every token: of the embedding, as the output layer."""
    sizes = {}
    for kind, options in OURS.items():
        with torch.device("meta"):
            model = build(shape).to(DTYPES[options.get("dtype", "float32")])
            whole = sum(parameter.nbytes for parameter in model.parameters())
            few_bits = quantize(model, options["quantize"]) if "quantize" in options else None
        sizes[f"ours {kind}"] = few_bits.weight_bytes if isinstance(few_bits, FusedTransformer) else whole
    sizes[UNCACHED] = sizes["ours float32"]
    return sizes | {f"transformers {kind}": sizes[f"ours {kind}"] for kind in ("float32", "bfloat16")}


def done(task: Task, **changes: Any) -> Any:
    """What comes of a task, changed so, in a process of its own. Raises Failed."""
    task = replace(task, **changes)
    command = [sys.executable, "-m", "benchmarks.generation_tasks", json.dumps(asdict(task))]
    environment = os.environ | {"OMP_NUM_THREADS": str(task.threads)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode < 0:
        raise Failed(f"its process was ended by signal {-ended.returncode}")
    if ended.returncode:
        raise Failed(ended.stderr.strip().splitlines()[-1])
    return json.loads(ended.stdout)


def note(text: str) -> None:
    """Say what the table does not."""
    print(f"benchmarks.generation: {text}", file=sys.stderr, flush=True)


def peers_at_hand(task: Task) -> tuple[dict[str, float], dict[str, int]]:
    """How far the logits of each peer that works here are from ours, and the bytes of weights of llama.cpp's kinds.

    Raises Disagreement when they are too far.
    """
    distances, sizes = dict[str, float](), dict[str, int]()
    for peer, packages in PEERS.items():
        try:
            if missing := [name for name in packages if find_spec(name) is None]:
                raise Failed(f"there is no package {' and '.join(missing)}")
            if peer == "llama.cpp":
                sizes = {f"{peer} {kind}": size for kind, size in done(task, work="gguf").items()}
            distances[peer] = done(task, work="compare", way=peer)
        except Failed as error:
            note(f"{peer} is left out: {error}")
            continue
        if distances[peer] > TOLERANCE:
            raise Disagreement(f"logits of {peer} are {distances[peer]:.2g} from ours; please report it, this is a bug")
    return distances, sizes


def in_rounds(task: Task, ways: dict[str, Task], repeats: int) -> dict[str, list[Any]]:
    """What was measured for each way, a list of the rounds; with the bandwidth as "read" and starting as "start"."""
    tasks = {"read": replace(task, work="read"), "start": replace(task, work="start")} | ways
    measured = defaultdict[str, list[Any]](list)
    with progress_bar(total=repeats * len(tasks), unit="run", leave=False) as bar:
        for i in range(repeats):
            for name, one in list(tasks.items()):
                bar.set_description(name)
                try:
                    measured[name].append(done(one))
                except Failed as error:
                    if not name.startswith(tuple(PEERS)):
                        raise
                    note(f"{name} is left out: {error}")
                    del tasks[name]
                bar.update()
            if not i:
                del tasks[UNCACHED]
    return {name: results for name, results in measured.items() if name in tasks or name == UNCACHED}


def ways_to_measure(task: Task, tokens: int, peers: Collection[str]) -> dict[str, Task]:
    """The tasks of a round, by name."""
    task = replace(task, work="write", tokens=tokens)
    ways = {way: replace(task, way=way) for way in WAYS if way.startswith(("ours", *peers))}
    for kind in OURS:
        name, sampled = sampled_row(kind), replace(ways[f"ours {kind}"], sampled=True)
        ways |= {name: sampled, together_row(kind): replace(sampled, stories=TOGETHER)}
    return ways


def measure(shape: ModelConfig, tokens: int, repeats: int) -> dict[str, Any]:
    """All figures. Raises Disagreement."""
    with tempfile.TemporaryDirectory() as folder:
        stage = save_random_run(shape, Path(folder))
        prompt = random_prompt(Tokenizer.load(stage / TOKENIZER), PROMPT_TOKENS)
        task = Task(work="", folder=str(stage), prompt=prompt, tokens=0, threads=os.cpu_count() or 1)
        distances, sizes = peers_at_hand(task)
        ways = ways_to_measure(task, tokens, distances.keys())
        measured = in_rounds(task, ways, repeats)
    sizes |= bytes_of_weights(shape)
    bandwidths = measured.pop("read")
    starts = measured.pop("start")
    rows = {}
    for name, results in measured.items():
        size = sizes[ways[name].way] / ways[name].stories  # a step for all of them reads the weights once
        rows[name] = {
            "first_ms": 1e3 * median(result["first"] for result in results),
            "tokens_per_second": median(result["rate"] for result in results),
            "megabytes_per_token": size / 1e6,
            "of_bound": median(
                result["rate"] * size / bandwidth for result, bandwidth in zip(results, bandwidths, strict=False)
            ),
        }
    return {
        "threads": task.threads,
        "bytes_per_second": median(bandwidths),
        "start": {name: median(start[name] for start in starts) for name in starts[0]},
        "distances": distances,
        "rows": rows,
        "times": {
            f"{ours} / {other}": median(
                own["rate"] / theirs["rate"] for own, theirs in zip(measured[ours], measured[other], strict=False)
            )
            for ours, other in HELD_AGAINST
            if other in measured
        },
    }


def table(figures: dict[str, Any]) -> Iterator[str]:
    """The figures in lines."""
    yield f"{figures['threads']} threads; memory gives {figures['bytes_per_second'] / 1e9:.1f} GB/s\n"
    yield "".join(f"{name}: {seconds:.2f} s  " for name, seconds in figures["start"].items()) + "\n"
    for peer, distance in figures["distances"].items():
        yield f"logits of {peer}: at most {distance:.1g} from ours\n"
    yield f"\n{'':36}{'first ms':>9}{'tokens/s':>10}{'MB/token':>10}{'of bound':>10}\n"
    for name, row in figures["rows"].items():
        yield (
            f"{name:36}{row['first_ms']:>9.1f}{row['tokens_per_second']:>10.1f}{row['megabytes_per_token']:>10.1f}"
            f"{row['of_bound']:>10.2f}\n"
        )
    yield f"\n{'':64}{'times':>11}\n"
    for pair, times in figures["times"].items():
        yield f"{pair:64}{times:>11.2f}\n"


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        "python -m benchmarks.generation",
        "How fast stories are written, beside what memory allows, transformers and llama.cpp.",
        "  python -m benchmarks.generation --json > generation.json\n",
    )
    parser.add_argument("--preset", default="story", metavar="NAME", help="the model's sizes (default story)")
    parser.add_argument("--tokens", type=int, default=256, metavar="N", help="length of each text (default 256)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="rounds (default 3)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print. Raises a UserError for what the user can put right."""
    shape = preset(args.preset)
    most = shape.context - 1 - PROMPT_TOKENS
    if not 2 <= args.tokens <= most:
        raise UsageError(f"--tokens {args.tokens} is not from 2 to {most}, which fit in the context")
    if args.repeats < 1:
        raise UsageError(f"--repeats {args.repeats} measures nothing; pass 1 or more")
    figures = measure(shape, args.tokens, args.repeats)
    show(json.dumps(figures) + "\n" if args.json else "".join(table(figures)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("benchmarks.generation", lambda: run(parser().parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
