"""What a stage's training starts from.

In: a request and the run's folder.  Out: a Beginning: data, tokenizer, plan and weights, of a stage that is new or of
one that goes on. A beginning changes nothing in the run but that a run without a tokenizer gets one, so whatever is
missing or does not fit is said while all that was there still is.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from bpe import Tokenizer
from data.batches import HeldOut, TrainingBatches
from data.copying import CopyingBatches
from data.documents import Split, bytes_of_text
from data.layout import SPECIAL_TOKENS
from data.sources import PairSource, TextSource, pair_source, text_source
from data.tokens import TokenFile
from model.build import build
from model.compiling import can_compile
from model.copying import lay_out_copying
from model.errors import ModelError
from model.folder import CONFIG, MODEL_FILES, TOKENIZER, WEIGHTS, load_folder
from model.hardware import DTYPES
from model.minutes import MEASURING_SHARE, closing_seconds
from model.optimizer import Optimizer
from model.plan import Plan, make_plan
from model.report import RESUME
from model.request import SHAPE_OPTIONS, Request, StageRecord, refuse_differences, resumed_settings, shape_options
from model.run import RunFolder
from model.settings import Stage
from model.speed import tokens_per_second
from model.train import Run
from model.transformer import Transformer

_log = logging.getLogger("model")


@dataclass(frozen=True)
class Beginning:
    """What a stage's training starts from."""

    source: TextSource | PairSource
    fingerprint: str  # of the source
    tokenizer: Tokenizer
    plan: Plan
    weights: Mapping[str, Tensor] | None = None  # None: fresh ones, or those of resume.pt
    pretrained: str | None = None  # hash of the file that the weights to finetune are from
    started: float = field(default_factory=time.monotonic)  # when its data was at hand: its minutes count from there


def source_of(stage: Stage, request: Request) -> TextSource | PairSource:
    """The data that a stage is to learn from, downloaded now if need be. Raises DataError where there is none."""
    if stage == "pretrain":
        return text_source(request.texts, request.dataset, request.downloads)
    return pair_source(request.pairs, request.dataset, request.downloads)


def record_of(stage: Stage, folder: RunFolder) -> StageRecord | None:
    """What the run says of a stage; None where it has not begun, or was killed before its first save."""
    found, resume = folder.stage(stage), folder.path / stage / RESUME
    if not found or not (resume.exists() or folder.lists(resume)):
        return None
    return StageRecord.from_record(found)


def begin_pretraining(folder: RunFolder, request: Request, device: torch.device) -> Beginning:
    """A fresh model; its tokenizer is the run's, or trained now on the same texts."""
    source = text_source(request.texts, request.dataset, request.downloads)
    started = time.monotonic()
    tokenizer = None
    if has_tokenizer(folder) and not request.restart:
        tokenizer = own_tokenizer(folder, request.vocab_size)
        _log.warning(
            "with the run's tokenizer: %d tokens, trained on %s; --restart trains another",
            tokenizer.vocab_size,
            folder.stage("tokenizer").get("source", "other texts"),
        )
        request = replace(request, vocab_size=tokenizer.vocab_size)
    plan = make_plan("pretrain", request, device, text_bytes=bytes_of_text(source.files))
    if tokenizer is None:
        vocabulary = plan.settings.shape.vocab_size
        tokenizer = train_tokenizer(source, vocabulary, shrink=request.vocab_size is None)
        if not has_tokenizer(folder):  # a restart keeps the old one until the new training begins
            keep_tokenizer(folder, tokenizer, source.name)
    plan = plan.with_vocabulary(tokenizer.vocab_size)
    return Beginning(source, source.fingerprint(), tokenizer, plan, started=started)


def batches_of(files: Mapping[Split, TokenFile], tok: Tokenizer, plan: Plan) -> tuple[TrainingBatches, HeldOut]:
    """A stage's token files as batches to train on and held-out text."""
    context, config = plan.settings.shape.context, plan.settings.config
    rows = config.rows(context)
    batches = TrainingBatches(files["train"], context=context, rows=rows, seed=config.seed)
    held_out = HeldOut(files["valid"], tok, context=context, rows=rows, max_tokens=config.eval_tokens)
    return batches, held_out


def lessons_of(batches: TrainingBatches, held_out: HeldOut, plan: Plan) -> TrainingBatches | CopyingBatches:
    """What a stage trains on, by a plan that knows the text: exercises first, where it has some.

    batches and held_out get its number of rows; every process of a training must cut both alike.
    """
    config, shape = plan.settings.config, plan.settings.shape
    batches.rows = held_out.rows = config.rows(shape.context)
    if not config.exercises:
        return batches
    return CopyingBatches(batches, exercises=config.exercises, vocab_size=shape.vocab_size)


def build_run(plan: Plan, device: torch.device, weights: Mapping[str, Tensor] | None = None) -> Run:
    """The model, with the weights it begins with, and its optimizer, at step 0."""
    settings = plan.settings
    torch.manual_seed(settings.config.seed)
    model = build(settings.shape, dropout=settings.config.dropout)
    if settings.config.exercises and isinstance(model, Transformer):
        lay_out_copying(model)
    if weights is not None:
        model.load_state_dict(weights)
    model.to(device)
    dtype = DTYPES[settings.dtype]
    return Run(model, Optimizer(model, settings.config, dtype), dtype, device)


def begin_finetuning(folder: RunFolder, request: Request, device: torch.device) -> Beginning:
    """The pretrained weights, their shape and their tokenizer. Raises ModelError where there are none."""
    origin = request.start_from or folder.path
    pretrained = origin if (origin / CONFIG).exists() else origin / "pretrain"
    if not (pretrained / CONFIG).exists():
        raise ModelError(
            f"{origin} has no pretrained model to finetune; run: python LLM-BPE.py --stage pretrain --run {origin}"
            " (or pass --from DIR, a run that has one)"
        )
    origin_run = RunFolder(pretrained.parent)
    origin_run.verify(*(pretrained / name for name in MODEL_FILES))
    loaded = load_folder(pretrained)
    settings = origin_run.stage(pretrained.name).get("settings")
    preset = settings.get("preset", "as pretrained") if isinstance(settings, dict) else "as pretrained"
    refuse_differences(
        f"{pretrained} has other sizes, which finetuning keeps",
        {"preset": preset} | shape_options(loaded.model.config),
        request.options(("preset", *SHAPE_OPTIONS)),
        "leave those options out",
    )
    if not has_tokenizer(folder):
        keep_tokenizer(folder, loaded.tokenizer, str(pretrained))
    elif (found := own_tokenizer(folder).fingerprint) != loaded.tokenizer.fingerprint:
        raise ModelError(
            f"{pretrained} was trained with tokenizer {loaded.tokenizer.fingerprint}, {folder.path / TOKENIZER} is "
            f"{found}: the same ids would mean other text; choose another folder with --run"
        )
    source = pair_source(request.pairs, request.dataset, request.downloads)
    started = time.monotonic()
    plan = make_plan("finetune", request, device, pretrained=(preset, loaded.model.config))
    weights, origin_hash = loaded.model.state_dict(), origin_run.hash_of(pretrained / WEIGHTS)
    return Beginning(source, source.fingerprint(), loaded.tokenizer, plan, weights, origin_hash, started)


def resumed_plan(stage: Stage, record: StageRecord, request: Request, path: Path, device: torch.device) -> Plan:
    """The plan of a stage that goes on: its own settings, and the limit asked for now if there is one."""
    settings = resumed_settings(stage, record, request, path)
    limit = request.limit(settings.tokens_per_step) or record.limit
    return Plan(
        settings,
        limit,
        preparing_seconds=record.preparing_seconds,
        closing_seconds=record.closing_seconds,
        compiled=record.compiled and can_compile(device),  # the same code gives the same bits
        most_steps=record.most_steps if limit == record.limit else None,
    )


def with_time_to_close(stage: Stage, record: StageRecord, plan: Plan, device: torch.device) -> Plan:
    """The plan of a stage that goes on; where only now a clock ends it, the machine is measured, to end on time."""
    seconds = plan.limit.seconds
    if seconds is None or record.limit.seconds is not None:
        return plan
    shape, config, dtype = plan.settings.shape, plan.settings.config, DTYPES[plan.settings.dtype]
    most, packed = MEASURING_SHARE * seconds, stage == "finetune"
    speed = tokens_per_second(shape, config, device, dtype, plan.compiled, most, packed=packed)
    return replace(plan, closing_seconds=closing_seconds(config, shape, speed))


def take_up(
    stage: Stage, folder: RunFolder, request: Request, record: StageRecord, plan: Plan, device: torch.device
) -> Beginning:
    """What a stage that has begun goes on from. Raises ModelError for data, tokenizer or files that are not its own."""
    path = folder.path / stage
    folder.verify(path / RESUME)
    tokenizer = own_tokenizer(folder)
    if tokenizer.fingerprint != record.tokenizer:
        raise ModelError(
            f"{path} was trained with tokenizer {record.tokenizer}, {folder.path / TOKENIZER} is "
            f"{tokenizer.fingerprint}: the same ids would mean other text; "
            f"put the tokenizer back, or pass --restart to train {stage} anew"
        )
    source = source_of(stage, request)
    if (fingerprint := source.fingerprint()) != record.source:
        raise ModelError(
            f"{path} was trained on data {record.source[:12]}, {source.name} is {fingerprint[:12]}; "
            f"give the same data to go on, or pass --restart to train {stage} anew"
        )
    return Beginning(source, fingerprint, tokenizer, with_time_to_close(stage, record, plan, device))


def train_tokenizer(source: TextSource, vocab_size: int, *, shrink: bool) -> Tokenizer:
    """A tokenizer trained on the training documents; `shrink`: a small corpus gets a smaller one."""
    texts = (document.text for split, document in source.examples() if split == "train")
    tokenizer = Tokenizer.train(texts, vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, shrink=shrink)
    if tokenizer.vocab_size < vocab_size:
        _log.warning(
            "the text supports %d tokens, not %d; the vocabulary has that many", tokenizer.vocab_size, vocab_size
        )
    return tokenizer


def has_tokenizer(folder: RunFolder) -> bool:
    """Whether the run has a tokenizer, or says it had."""
    path = folder.path / TOKENIZER
    return path.exists() or folder.lists(path)


def own_tokenizer(folder: RunFolder, vocab_size: int | None = None) -> Tokenizer:
    """The run's tokenizer. Raises ModelError when it was changed or is gone, or is of another size than asked for."""
    path = folder.path / TOKENIZER
    folder.verify(path)
    tokenizer = Tokenizer.load(path)
    if vocab_size not in (None, tokenizer.vocab_size):
        raise ModelError(
            f"{path} has {tokenizer.vocab_size:,} tokens, not {vocab_size:,}; "
            "leave --vocab-size out, or pass --restart to train the tokenizer anew"
        )
    return tokenizer


def keep_tokenizer(folder: RunFolder, tokenizer: Tokenizer, source: str) -> None:
    """Make this the run's tokenizer. source: what it was trained on. Raises FileError when the system refuses."""
    path = folder.path / TOKENIZER
    with folder.writing(path):
        tokenizer.save(path)
    folder.note_stage("tokenizer", vocab_size=tokenizer.vocab_size, fingerprint=tokenizer.fingerprint, source=source)
