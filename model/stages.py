"""The three stages of a run, from what a person asks to what stands in the run's folder.

In: a Request.  Out: tokenizer.json, token files, pretrain/ and finetune/ in the run's folder. A training stage settles
its settings, prepares its data, builds or takes up the run, trains, and says what to type next. What differs between
the two is their data, where their weights come from (`begin_pretraining`, `begin_finetuning`) and their numbers
(model/settings.py); the loop is one (model/train.py).
"""

import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bpe import Tokenizer
from data.batches import HeldOut, TrainingBatches
from data.layout import SPECIAL_TOKENS
from data.sources import PAIRS, TEXTS, PairSource, TextSource, pair_source, text_source
from data.tokens import prepared
from model.build import build
from model.checkpoint import load_checkpoint
from model.errors import ModelError
from model.folder import load_folder
from model.hardware import DTYPES, pick_device
from model.optimizer import Optimizer
from model.plan import Plan, make_plan
from model.report import MODEL_FILES, TrainingReport
from model.request import SHAPE_OPTIONS, Request, resumed_settings
from model.run import RunFolder
from model.settings import Limit, Stage
from model.train import Run, train

DEFAULT_VOCABULARY = 16_384
PART_OF_MINUTES: dict[Stage, float] = {"pretrain": 2 / 3, "finetune": 1 / 3}  # where one command does all

_log = logging.getLogger("model")


@dataclass(frozen=True)
class Beginning:
    """What a stage's training starts from."""

    tokenizer: Tokenizer
    plan: Plan
    weights: Mapping[str, Tensor] | None = None  # None: fresh ones, or those of resume.pt


def run_stages(stage: str, request: Request) -> None:
    """Do "tokenizer", "pretrain" or "finetune", or with "all" the three, in the run's folder.

    Raises a UserError for whatever the user can put right, and KeyboardInterrupt, after saving, on Ctrl-C.
    """
    started = time.monotonic()
    folder = RunFolder(request.run)
    with folder.locked():
        if stage == "tokenizer":
            vocabulary = request.vocab_size or DEFAULT_VOCABULARY
            train_tokenizer(
                folder,
                text_source(request.texts, request.dataset, request.downloads),
                vocabulary,
                shrink=request.vocab_size is None,
            )
            _log.info("next: python LLM-BPE.py --stage pretrain --run %s", folder.path)
        if stage in ("pretrain", "all"):
            train_stage("pretrain", folder, part_of(request, "pretrain") if stage == "all" else request, started)
        if stage in ("finetune", "all"):
            started = time.monotonic() if stage == "all" else started
            train_stage("finetune", folder, part_of(request, "finetune") if stage == "all" else request, started)


def part_of(request: Request, stage: Stage) -> Request:
    """One stage's part of a request for all: its share of the minutes, and the dataset where that fits the stage."""
    minutes = None if request.minutes is None else request.minutes * PART_OF_MINUTES[stage]
    known, given = (TEXTS, request.texts) if stage == "pretrain" else (PAIRS, request.pairs)
    dataset = request.dataset if request.dataset in known and given is None else None
    if stage == "pretrain":
        return replace(request, minutes=minutes, dataset=dataset)
    shape: dict[str, Any] = dict.fromkeys(("preset", *SHAPE_OPTIONS))  # the pretrained model has one
    return replace(request, minutes=minutes, dataset=dataset, **shape)


def train_tokenizer(folder: RunFolder, source: TextSource, vocab_size: int, *, shrink: bool) -> Tokenizer:
    """Train the run's tokenizer on the training documents and save it; `shrink`: a small corpus gets a smaller one."""
    texts = (document.text for split, document in source.examples() if split == "train")
    tokenizer = Tokenizer.train(texts, vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, shrink=shrink)
    if tokenizer.vocab_size < vocab_size:
        _log.warning(
            "the text supports %d tokens, not %d; the vocabulary has that many", tokenizer.vocab_size, vocab_size
        )
    path = folder.path / "tokenizer.json"
    with folder.writing(path):
        tokenizer.save(path)
    folder.note_stage(
        "tokenizer", vocab_size=tokenizer.vocab_size, fingerprint=tokenizer.fingerprint, source=source.name
    )
    return tokenizer


def train_stage(stage: Stage, folder: RunFolder, request: Request, started: float) -> None:
    """Train one stage from where it stands to its limit. started: time.monotonic() when the command began."""
    path = folder.path / stage
    device = pick_device(request.device)
    record = {} if request.restart else folder.stage(stage)
    if record:
        request = request.with_data_of(record)
    source: TextSource | PairSource
    if stage == "pretrain":
        source = text_source(request.texts, request.dataset, request.downloads)
    else:
        source = pair_source(request.pairs, request.dataset, request.downloads)
    if record:
        begun = take_up(stage, folder, request, record)
    elif stage == "pretrain":
        begun = begin_pretraining(folder, request, device)
    else:
        begun = begin_finetuning(folder, request, device)
    plan, tokenizer = begun.plan, begun.tokenizer
    if record.get("state") == "finished" and not plan.limit.extends(Limit(**record["limit"])):
        _log.warning("%s is finished: %s; more --steps or --minutes go on from its weights", path, record["summary"])
        _log.warning("next: %s", next_command(stage, folder.path))
        return

    fingerprint = source.fingerprint()
    if record and record["source"] != fingerprint:
        raise ModelError(
            f"{path} was trained on data {record['source'][:12]}, {source.name} is {fingerprint[:12]}; "
            f"give the same data to go on, or pass --restart to train {stage} anew"
        )
    files = prepared(source.examples, tokenizer, folder.path / "tokens", stage, fingerprint)
    shape, config = plan.settings.shape, plan.settings.config
    rows = config.rows(shape.context)
    batches = TrainingBatches(files["train"], context=shape.context, rows=rows, seed=config.seed)
    held_out = HeldOut(files["valid"], tokenizer, context=shape.context, rows=rows, max_tokens=config.eval_tokens)
    torch.manual_seed(config.seed)
    model = build(shape, dropout=config.dropout)
    if begun.weights is not None:
        model.load_state_dict(begun.weights)
    model.to(device)
    run = Run(model, Optimizer(model, config), DTYPES[plan.settings.dtype], device)
    report = TrainingReport(folder, stage, tokenizer, config, plan.training_limit)
    if record and (path / "resume.pt").exists():
        folder.verify(path / "resume.pt")
        load_checkpoint(path / "resume.pt", run)
        report.resumed(run)
        _log.warning("%s goes on from step %d", path, run.step)
    else:  # new, or to be begun anew, or killed before its first save
        folder.forget_stage(stage)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        run.earlier_seconds = time.monotonic() - started
    folder.note_stage(
        stage,
        state="training",
        **plan.to_record(),
        **request.data_record(),
        source=fingerprint,
        tokenizer=tokenizer.fingerprint,
    )
    for line in plan.lines(model.num_parameters, batches.tokens_per_epoch, device):
        _log.warning("%s", line)
    with report.watching():
        train(run, batches, held_out, config, plan.training_limit, report)
    if report.wants_stop():
        _log.warning("stopped at step %d and saved; the same command goes on from there", run.step)
        raise KeyboardInterrupt
    summary = report.finished(run)
    folder.note_stage(stage, state="finished", summary=summary, step=run.step, seconds=round(run.seconds, 1))
    _log.warning("%s", summary)
    _log.warning("saved in %s; next: %s", path, next_command(stage, folder.path))


def begin_pretraining(folder: RunFolder, request: Request, device: torch.device) -> Beginning:
    """A fresh model; its tokenizer is the run's, or trained now on the same texts."""
    plan = make_plan("pretrain", request, device)
    path = folder.path / "tokenizer.json"
    if path.exists() and not request.restart:
        folder.verify(path)
        tokenizer = Tokenizer.load(path)
        if request.vocab_size not in (None, tokenizer.vocab_size):
            raise ModelError(
                f"{path} has {tokenizer.vocab_size} tokens, not {request.vocab_size}; "
                "leave --vocab-size out, or pass --restart to train the tokenizer anew"
            )
    else:
        source = text_source(request.texts, request.dataset, request.downloads)
        vocabulary = plan.settings.shape.vocab_size
        tokenizer = train_tokenizer(folder, source, vocabulary, shrink=request.vocab_size is None)
    return Beginning(tokenizer, plan.with_vocabulary(tokenizer.vocab_size))


def begin_finetuning(folder: RunFolder, request: Request, device: torch.device) -> Beginning:
    """The pretrained weights and their tokenizer. Raises ModelError where there are none."""
    origin = request.start_from or folder.path
    pretrained = origin if (origin / "config.json").exists() else origin / "pretrain"
    if not (pretrained / "config.json").exists():
        raise ModelError(
            f"{origin} has no pretrained model to finetune; run: python LLM-BPE.py --stage pretrain --run {origin}"
            " (or pass --from DIR, a run that has one)"
        )
    if pretrained == folder.path / "pretrain":
        folder.verify(*(pretrained / name for name in MODEL_FILES))
    loaded = load_folder(pretrained)
    plan = make_plan("finetune", request, device, shape=loaded.model.config)
    path = folder.path / "tokenizer.json"
    if not path.exists():
        with folder.writing(path):
            loaded.tokenizer.save(path)
    elif (found := Tokenizer.load(path).fingerprint) != loaded.tokenizer.fingerprint:
        raise ModelError(
            f"{pretrained} was trained with tokenizer {loaded.tokenizer.fingerprint}, {path} is {found}: "
            "the same ids would mean other text; choose another folder with --run"
        )
    return Beginning(loaded.tokenizer, plan, loaded.model.state_dict())


def take_up(stage: Stage, folder: RunFolder, request: Request, record: dict[str, Any]) -> Beginning:
    """What a stage that has begun goes on from: its own settings, and the limit asked for now if there is one."""
    settings = resumed_settings(stage, record, request, folder.path / stage)
    path = folder.path / "tokenizer.json"
    folder.verify(path)
    tokenizer = Tokenizer.load(path)
    if tokenizer.fingerprint != record["tokenizer"]:
        raise ModelError(
            f"{folder.path / stage} was trained with tokenizer {record['tokenizer']}, {path} is "
            f"{tokenizer.fingerprint}: the same ids would mean other text; "
            "put the tokenizer back, or pass --restart to train this stage anew"
        )
    limit = request.limit(settings.config.batch_tokens) or Limit(**record["limit"])
    return Beginning(tokenizer, Plan(settings, limit, record["closing_seconds"]))


def next_command(stage: Stage, run: Path) -> str:
    """What a person types after this stage."""
    option = "" if run == Request().run else f" --run {run}"
    if stage == "pretrain":
        return f"python LLM-BPE.py --stage finetune{option}"
    return f'python LLM-Generate.py "A man in a sinking ship"{option}'
