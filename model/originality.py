"""How much stories repeat themselves, and how much of them stands in what their model was trained on.

In: a model, held-out pairs, and the texts that it was trained on.  Out: for people's stories and for those of the
model, of the first WORDS words of each:

    distinct_n     of a hundred runs of n words, how many are different (Li et al. 2016, arXiv:1510.03055, section 5.3)
    repeated_4     of a hundred runs of 4 words, how many stand there more than once
    copied_13      of a hundred runs of 13 words, how many stand in a training text (runs of that length are what Brown
                   et al. 2020, arXiv:2005.14165, appendix C, look for; here in the other direction)

All are means over the stories. Words are in lower case, and what stands between them does not count.
"""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from bpe import Tokenizer
from bpe.progress import progress_bar
from data.documents import Pair
from data.tokens import TokenFile, token_file_path
from model.language_model import LanguageModel
from model.settings import Stage
from model.story import Story
from model.story_settings import Sampling
from model.writing import in_turn

WORDS = 150
COPIED = 13  # words in a row that are not there by chance
WORD = re.compile(r"\w+(?:'\w+)*")

Run = tuple[str, ...]
Figures = dict[str, float]


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return WORD.findall(text.lower())


def runs(words: Sequence[str], n: int) -> Iterator[Run]:
    """Every run of n words, in their order."""
    return zip(*(islice(words, i, None) for i in range(n)), strict=False)


def distinct(words: Sequence[str], n: int) -> float:
    """The share of different runs of n words."""
    counts = Counter(runs(words, n))
    return len(counts) / counts.total() if counts else 1.0


def repeated(words: Sequence[str], n: int) -> float:
    """The share of runs of n words that stand there more than once."""
    counts = Counter(runs(words, n))
    return sum(times for times in counts.values() if times > 1) / counts.total() if counts else 0.0


def copied(words: Sequence[str], found: set[Run]) -> float:
    """The share of runs of COPIED words that are among those found in training texts."""
    here = list(runs(words, COPIED))
    return sum(run in found for run in here) / len(here) if here else 0.0


def found_in(texts: Iterable[str], stories: Iterable[Sequence[str]]) -> set[Run]:
    """The runs of COPIED words of the stories that stand in any of the texts, which are read one by one."""
    wanted = {run for words in stories for run in runs(words, COPIED)}
    found: set[Run] = set()
    for text in texts:
        found |= wanted.intersection(runs(words_of(text), COPIED))
    return found


def figures(stories: Sequence[Sequence[str]], found: set[Run] | None = None) -> Figures:
    """The means over stories, given as words; copied_13 where it was looked what stands in training texts."""
    mean = {"words": statistics.mean(map(len, stories))}
    mean |= {f"distinct_{n}": 100 * statistics.mean(distinct(words, n) for words in stories) for n in (1, 2, 3)}
    mean["repeated_4"] = 100 * statistics.mean(repeated(words, 4) for words in stories)
    if found is not None:
        mean[f"copied_{COPIED}"] = 100 * statistics.mean(copied(words, found) for words in stories)
    return {name: round(value, 2) for name, value in mean.items()}


def one_a_prompt(pairs: Iterable[Pair], num: int) -> list[Pair]:
    """The first pair of each of the first `num` prompts, in their order; fewer where there are not so many."""
    seen = dict[str, Pair]()
    for pair in pairs:
        seen.setdefault(pair.prompt, pair)
        if len(seen) == num:
            break
    return list(seen.values())


def compare(
    pairs: Sequence[Pair], ways: Mapping[str, Callable[[str, int], Story]], texts: Iterable[str] | None = None
) -> dict[str, Figures]:
    """The figures of people's stories, and of those of each way, a function from a prompt and a seed to a story.

    Story i has seed i. texts: those trained on, to look for copies in.
    """
    told = {"people": [words_of(pair.story)[:WORDS] for pair in pairs]}
    with progress_bar(total=len(ways) * len(pairs), description="writing", unit="story") as bar:
        for name, way in ways.items():
            told[name] = []
            for pieces in in_turn([way(pair.prompt, seed) for seed, pair in enumerate(pairs)]):
                told[name].append(words_of("".join(pieces))[:WORDS])
                bar.update()
    found = None if texts is None else found_in(texts, (words for stories in told.values() for words in stories))
    return {name: figures(stories, found) for name, stories in told.items()}


def write(model: LanguageModel, tok: Tokenizer, sampling: Sampling, prompt: str, seed: int) -> Story:
    """A story long enough to count in."""
    return Story(model, tok, prompt, sampling=sampling, max_tokens=2 * WORDS, seed=seed)


def table(rows: Mapping[str, Figures], stories: int) -> str:
    """The figures for people to read."""
    width = max(map(len, rows))
    columns = max(rows.values(), key=len)
    lines = [f"the first {WORDS} words of {stories} stories", " " * width + "".join(f"{name:>12}" for name in columns)]
    lines += [f"{name:<{width}}" + "".join(f"{value:12.2f}" for value in row.values()) for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def open_training_texts(stage_folder: Path, stage: Stage | None, tok: Tokenizer) -> list[TokenFile]:
    """What a stage's model has read, as its run keeps it in tokens. Raises DataError where that is gone or changed."""
    stages: tuple[Stage, ...] = ("pretrain",) if stage == "pretrain" else ("pretrain", "finetune")
    return [TokenFile.open(token_file_path(stage_folder.parent / "tokens", stage, "train"), tok) for stage in stages]


def documents_of(files: Sequence[TokenFile], tok: Tokenizer) -> Iterator[str]:
    """Every document as text, special tokens as theirs."""
    total = sum(file.num_tokens for file in files)
    with progress_bar(total=total, description="reading what it was trained on", unit="tok") as bar:
        for file in files:
            for i in range(len(file)):
                tokens = file.document(i)
                yield tok.decode(tokens)
                bar.update(len(tokens))
