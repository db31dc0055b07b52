"""Laws of held-out figures: what evaluate() finds is what a slow reference finds, one token at a time, in float64."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from bpe import Tokenizer
from data.batches import HeldOut
from data.documents import Document, Pair
from data.encoding import PlainPair
from data.layout import pair_tokens, plain_prompt, plain_prompt_tokens, prompt_tokens
from data.tokens import write_token_files
from data.writing_prompts import read_pairs
from model import prompt_ranking
from model.build import LanguageModel, build
from model.config import ModelConfig
from model.evaluate import evaluate
from model.folder import save_folder
from model.prompt_ranking import OTHERS, rank_prompts, word_perplexity
from model.scoring import main

ROOT = Path(__file__).parents[2]
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "that", "hat", "was", "flat;", "naïve", "☃", "moles"]


def words(count: int, seed: int = 0) -> str:
    return " ".join(WORDS[(seed + i * i) % len(WORDS)] for i in range(count))


DOCUMENTS = [words(count, count) for count in (1, 90, 12, 30, 2, 45)]
PAIRS = [(words(5, i), words(count, i)) for i, count in enumerate((3, 70, 14))] + [(words(40), words(60, 9))]


def nats(model: LanguageModel, inputs: Sequence[int], target: int) -> float:
    """The negative log-likelihood of one token, in float64."""
    with torch.no_grad():
        logits = model(torch.tensor([list(inputs)]))[0, -1]
    return -logits.double().log_softmax(-1)[target].item()


def slow_nats(model: LanguageModel, tokens: Sequence[int], header: int, scored: int) -> float:
    """The nats of `scored` tokens after the header (or after the first token), one forward pass for each.

    The first window holds `context` inputs. Each one after it starts with the header, goes on with half of what room
    the header leaves, which is read again, and scores what is new.
    """
    context = model.config.context
    total, start, stop = 0.0, 0, context
    for at in range(max(1, header), max(1, header) + scored):
        if at > stop:
            start, stop = at - (context - header) // 2, at - (context - header) // 2 + context - header
        inputs = [*tokens[:header], *tokens[start:at]] if start else tokens[:at]
        assert len(inputs) <= context
        total += nats(model, inputs, tokens[at])
    return total


def cut_to_half(tokens: list[int], header: int, context: int) -> tuple[list[int], int]:
    """A pair's tokens with a prompt of at most half the context; its last token stays."""
    fits = min(header, context // 2)
    return tokens[: fits - 1] + tokens[header - 1 :], fits


@pytest.fixture(scope="module")
def model(perturbed: Callable[..., LanguageModel], config: ModelConfig) -> LanguageModel:
    return perturbed(config)


def held_out(
    examples: Sequence[Document | Pair], tok: Tokenizer, folder: Path, context: int, max_tokens: int | None
) -> HeldOut:
    files = write_token_files(
        [("valid", example) for example in examples], tok, folder, "x", source="", splits=["valid"], workers=1
    )
    return HeldOut(files["valid"], tok, context=context, rows=3, max_tokens=max_tokens)


@pytest.mark.parametrize("max_tokens", [None, 300, 150, 10])
def test_documents_take_the_bits_that_a_slow_reference_finds(
    model: LanguageModel, tok: Tokenizer, tmp_path: Path, max_tokens: int | None
) -> None:
    context = model.config.context
    end = tok.special_tokens["<|endoftext|>"]
    encoded = [[end, *tok.encode(text), end] for text in DOCUMENTS]
    counts = [len(tokens) - 2 for tokens in encoded]  # what can be scored: neither the first END nor the last
    least, step, share = 2 * context, 1, max(counts)
    if max_tokens is not None:  # the beginnings up to one length, two contexts at least, of every k-th document
        while step < len(counts) and sum(min(count, least) for count in counts[::step]) > max_tokens:
            step += 1
        while share > least and sum(min(count, share) for count in counts[::step]) > max_tokens:
            share -= 1
    taken = [(tokens, min(count, share)) for tokens, count in zip(encoded, counts, strict=True)][::step]
    total = sum(slow_nats(model, tokens, 0, count) for tokens, count in taken)
    num_bytes = sum(len(tok.decode_bytes(tokens[1 : 1 + count])) for tokens, count in taken)

    documents = [Document(str(i), text) for i, text in enumerate(DOCUMENTS)]
    score = evaluate(model, held_out(documents, tok, tmp_path, context, max_tokens), torch.float32)
    assert (score.num_tokens, score.num_bytes) == (sum(count for _, count in taken), num_bytes)
    assert score.bits == pytest.approx(total / math.log(2), rel=1e-5)
    assert score.bits_per_byte == pytest.approx(total / math.log(2) / num_bytes, rel=1e-5)
    assert score.nats_per_token == pytest.approx(total / score.num_tokens, rel=1e-5)
    if max_tokens is None:
        assert score.num_bytes == sum(len(text.encode()) for text in DOCUMENTS)


@pytest.mark.parametrize("kind", [Pair, PlainPair])
@pytest.mark.parametrize("max_tokens", [None, 200, 10])
def test_stories_take_the_bits_that_a_slow_reference_finds_given_their_prompts(
    model: LanguageModel, tok: Tokenizer, tmp_path: Path, max_tokens: int | None, kind: type[Pair]
) -> None:
    context = model.config.context
    end = tok.special_tokens["<|endoftext|>"]
    counts = [len(tok.encode(story)) + 1 for _, story in PAIRS]
    step = 1
    while max_tokens is not None and step < len(counts) and sum(counts[::step]) > max_tokens:
        step += 1
    total = 0.0
    for prompt, story in PAIRS[::step]:
        header = (
            plain_prompt_tokens(tok, tok.encode(plain_prompt(prompt)))
            if kind is PlainPair
            else prompt_tokens(tok, tok.encode(prompt))
        )
        tokens, fits = cut_to_half([*header, *tok.encode(story), end], len(header), context)
        total += slow_nats(model, tokens, fits, len(tokens) - fits)
    num_bytes = sum(len(story.encode()) + 1 for _, story in PAIRS[::step])

    pairs = [kind(prompt, story) for prompt, story in PAIRS]
    score = evaluate(model, held_out(pairs, tok, tmp_path, context, max_tokens), torch.float32)
    assert (score.num_tokens, score.num_bytes) == (sum(counts[::step]), num_bytes)
    assert score.bits == pytest.approx(total / math.log(2), rel=1e-5)


def lined_pairs(kind: type[Pair]) -> list[Pair]:
    """Twelve pairs with eleven prompts, whose stories are of one line to four, under LIMIT words or over."""
    lines = [" <newline> ".join(words(2 + i, i + j) for j in range(1 + i % 4)) for i in range(12)]
    return [
        kind(words(3, i % 11) + str(i % 11), line.replace(" <newline> ", "\n"), line=line)
        for i, line in enumerate(lines)
    ]


LIMIT = 20


def slow_nats_of_beginning(model: LanguageModel, tok: Tokenizer, pair: Pair, prompt: str) -> float:
    """The nats of a pair's first LIMIT words after a prompt, and of the end where it ends there."""
    told = pair.line.split()
    text = " ".join(told[:LIMIT]).replace(" <newline> ", "\n").removesuffix(" <newline>")
    end = [tok.special_tokens["<|endoftext|>"]] * (len(told) <= LIMIT)
    header = (
        plain_prompt_tokens(tok, tok.encode(plain_prompt(prompt)))
        if type(pair) is PlainPair
        else prompt_tokens(tok, tok.encode(prompt))
    )
    tokens, fits = cut_to_half([*header, *tok.encode(text), *end], len(header), model.config.context)
    return slow_nats(model, tokens, fits, len(tokens) - fits)


@pytest.mark.parametrize("kind", [Pair, PlainPair])
def test_word_perplexity_is_that_of_a_slow_reference(
    model: LanguageModel, tok: Tokenizer, kind: type[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_ranking, "WORDS", LIMIT)
    pairs = lined_pairs(kind)
    counts = [min(LIMIT, len(pair.line.split())) for pair in pairs]
    assert min(counts) < LIMIT == max(counts)
    total = sum(slow_nats_of_beginning(model, tok, pair, pair.prompt) for pair in pairs)
    found = word_perplexity(model, tok, pairs, torch.float32)
    assert found == pytest.approx(math.exp(total / sum(counts)), rel=1e-4)


def test_prompts_are_ranked_as_by_a_slow_reference(
    model: LanguageModel, tok: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_ranking, "WORDS", LIMIT)
    pairs = lined_pairs(Pair)
    prompts = list(dict.fromkeys(pair.prompt for pair in pairs))
    ranking = rank_prompts(model, tok, pairs, torch.float32)
    assert ranking is not None
    assert ranking.stories == list(range(12))
    won = 0
    for pair, others in zip(pairs, ranking.others, strict=True):
        assert len({*others, prompts.index(pair.prompt)}) == 1 + OTHERS
        true, *false = (
            slow_nats_of_beginning(model, tok, pair, p) for p in (pair.prompt, *(prompts[i] for i in others))
        )
        won += true < min(false)
    assert ranking.share == pytest.approx(won / 12)
    assert rank_prompts(model, tok, pairs, torch.float32) == ranking
    assert rank_prompts(model, tok, pairs[:OTHERS], torch.float32) is None


def test_some_stories_are_ranked_where_there_are_many(
    model: LanguageModel, tok: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_ranking, "MOST_STORIES", 5)
    ranking = rank_prompts(model, tok, lined_pairs(Pair), torch.float32)
    assert ranking is not None
    assert len(set(ranking.stories)) == len(ranking.others) == 5 > ranking.share * 5 >= 0
    assert ranking.stories == sorted(ranking.stories)


def test_a_model_that_does_not_look_at_the_prompt_ranks_none_first(tok: Tokenizer, config: ModelConfig) -> None:
    """A new model's attention adds nothing to the stream."""
    ranking = rank_prompts(build(config), tok, lined_pairs(Pair), torch.float32)
    assert ranking is not None
    assert ranking.share == 0


def test_a_model_in_training_is_scored_without_dropout_and_goes_on_in_training(
    model: LanguageModel, tok: Tokenizer, tmp_path: Path
) -> None:
    text = held_out([Document("", words(60))], tok, tmp_path, model.config.context, None)
    dropping = build(model.config, dropout=0.5)
    dropping.load_state_dict(model.state_dict())
    assert evaluate(dropping.train(), text, torch.float32) == evaluate(model.eval(), text, torch.float32)
    assert dropping.training
    assert not model.training


@pytest.fixture(scope="module")
def pairs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for split, seeds in (("train", range(1, 5)), ("valid", range(20, 22))):
        (folder / f"{split}.wp_source").write_text("".join(f"[ WP ] {words(4, seed)}\n" for seed in seeds))
        (folder / f"{split}.wp_target").write_text("".join(f"{seed} {words(60, seed)}\n" for seed in seeds))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model: LanguageModel, tok: Tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("run")
    for stage in ("pretrain", "finetune"):
        save_folder(folder / stage, model.state_dict(), model.config, tok, stage=stage)
    return folder


ON_CPU = ("--device", "cpu", "--dtype", "float32")


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_the_command_scores_held_out_stories_in_the_layout_the_model_knows(
    run: Path, pairs_folder: Path, model: LanguageModel, tok: Tokenizer, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out = prompt_tokens if stage == "finetune" else plain_prompt_tokens
    total, num_bytes = 0.0, 0
    for pair in read_pairs(pairs_folder / "valid.wp_source", pairs_folder / "valid.wp_target"):
        header = lay_out(tok, tok.encode(plain_prompt(pair.prompt) if stage == "pretrain" else pair.prompt))
        tokens, fits = cut_to_half(
            pair_tokens(tok, header, tok.encode_to_array(pair.story)).tolist(), len(header), model.config.context
        )
        total += slow_nats(model, tokens, fits, len(tokens) - fits)
        num_bytes += len(pair.story.encode()) + 1
    assert main([str(run / stage), "--pairs", str(pairs_folder), "--json", *ON_CPU]) == 0
    out, err = capsys.readouterr()
    figures = json.loads(out)
    assert figures["bits_per_byte"] == pytest.approx(total / math.log(2) / num_bytes, rel=1e-5)
    assert (figures["documents"], figures["bytes"]) == (2, num_bytes)
    assert (figures["model"], figures["parameters"]) == (str(run / stage), model.num_parameters)
    assert ("plain text" in figures["text"]) == (stage == "pretrain")
    lines = (pairs_folder / "valid.wp_target").read_text().splitlines()
    assert figures["word_perplexity"] == pytest.approx(
        math.exp(total / sum(len(line.split()) for line in lines)), rel=1e-4
    )
    assert figures["prompt_ranking"] is None  # two prompts are too few
    assert err == ""


def test_the_command_scores_all_of_the_texts_it_is_given(
    run: Path, model: LanguageModel, tok: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path, text in zip(paths, DOCUMENTS[1:3], strict=True):
        path.write_text(text + "\n", encoding="utf-8")
    end = tok.special_tokens["<|endoftext|>"]
    encoded = [[end, *tok.encode(text)] for text in DOCUMENTS[1:3]]
    total = sum(slow_nats(model, tokens, 0, len(tokens) - 1) for tokens in encoded)
    bits_per_byte = total / math.log(2) / sum(len(text.encode()) for text in DOCUMENTS[1:3])
    assert main([str(run), "--texts", *map(str, paths), *ON_CPU]) == 0
    out, _ = capsys.readouterr()
    assert float(out.split()[0]) == pytest.approx(bits_per_byte, abs=1e-4)
    assert "2 documents" in out


def test_the_command_scores_weights_of_few_bits_as_they_are(
    run: Path, pairs_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = []
    for few_bits in ([], ["--quantize", "int8"], ["--quantize", "int4"]):
        assert main([str(run), "--pairs", str(pairs_folder), "--json", *ON_CPU, *few_bits]) == 0
        scores.append(json.loads(capsys.readouterr().out)["bits_per_byte"])
    assert scores[0] not in scores[1:]
    assert scores == pytest.approx([scores[0]] * 3, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{run}"], "pass --texts or --pairs"),
        (["{run}", "--texts", "{pairs}", "--pairs", "{pairs}"], "pass --texts or --pairs"),
        (["{run}/nowhere", "--pairs", "{pairs}"], "there is no folder"),
        (["{pairs}", "--pairs", "{pairs}"], "has no trained stage"),
        (["{pairs}/train.wp_source", "--pairs", "{pairs}"], "is a file"),
        (["{run}", "--pairs", "{pairs}/nowhere"], "nowhere"),
        (["{run}", "--texts", "{pairs}/nowhere"], "nowhere"),
        (["{run}", "--pairs", "{pairs}", "--device", "abacus"], "no device 'abacus'"),
        (["{run}", "--pairs", "{pairs}", "--dtype", "float7"], "no number format 'float7'"),
        (["{run}", "--pairs", "{pairs}", "--quantize", "int5"], "there is no quantization 'int5'"),
        (["--pairs", "{pairs}"], "DIR"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    run: Path, pairs_folder: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.format(run=run, pairs=pairs_folder) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("model.evaluate: ")
    assert err.count("\n") == 1
    assert words in err


def test_the_command_is_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "model.evaluate", "nowhere"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("model.evaluate: pass --texts or --pairs")
