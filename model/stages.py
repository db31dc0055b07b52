"""The three stages of a run, from what a person asks to what stands in the run's folder.

In: a Request.  Out: tokenizer.json, token files, pretrain/ and finetune/ in the run's folder. A training stage settles
what it starts from (model/beginning.py), prepares its data, builds or takes up the run, trains, and says what to type
next. The stages differ in their data, in where their weights come from and in their numbers (model/settings.py); the
loop is one (model/train.py).
"""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data.batches import HeldOut, TrainingBatches
from data.sources import PAIRS, TEXTS, text_source
from data.tokens import prepared
from model.beginning import (
    Beginning,
    begin_finetuning,
    begin_pretraining,
    has_tokenizer,
    keep_tokenizer,
    own_tokenizer,
    record_of,
    resumed_plan,
    source_of,
    take_up,
    train_tokenizer,
)
from model.build import build
from model.checkpoint import load_checkpoint
from model.config import preset
from model.errors import ModelError
from model.folder import TOKENIZER
from model.hardware import DTYPES, naming_want_of_memory, pick_device
from model.memory import estimate, fit
from model.optimizer import Optimizer
from model.plan import Plan
from model.report import RESUME, TrainingReport
from model.request import DEFAULT_PRESET, SHAPE_OPTIONS, Request
from model.run import RunFolder
from model.settings import Stage
from model.train import Run, train

PART_OF_MINUTES: dict[Stage, float] = {"pretrain": 2 / 3, "finetune": 1 / 3}  # where one command does all

_log = logging.getLogger("model")


def run_stages(stage: str, request: Request) -> None:
    """Do "tokenizer", "pretrain" or "finetune", or with "all" the three, in the run's folder.

    Raises a UserError for whatever the user can put right, and KeyboardInterrupt, after saving, on Ctrl-C.
    """
    started = time.monotonic()
    request.check(stage)  # before anything is downloaded, measured or written
    device = pick_device(request.device)
    folder = RunFolder(request.run)
    with folder.locked(), naming_want_of_memory(device):
        if stage == "tokenizer":
            tokenizer_stage(folder, request)
        elif stage == "pretrain":
            train_stage("pretrain", folder, request, device, started)
        elif stage == "finetune":
            train_stage("finetune", folder, request, device, started)
        else:
            finetuning = part_of(request, "finetune")
            if request.restart or record_of("finetune", folder) is None:
                source_of("finetune", finetuning)  # what is missing is said now, not after hours of pretraining
            train_stage("pretrain", folder, part_of(request, "pretrain"), device, started)
            train_stage("finetune", folder, finetuning, device, time.monotonic())


def part_of(request: Request, stage: Stage) -> Request:
    """One stage's part of a request for all: its share of the minutes, and the dataset where that fits the stage."""
    minutes = None if request.minutes is None else request.minutes * PART_OF_MINUTES[stage]
    fits = {
        "pretrain": request.texts is None and request.dataset in TEXTS,
        "finetune": request.pairs is None and request.dataset in PAIRS,
    }
    dataset = (
        request.dataset if fits[stage] or not any(fits.values()) else None
    )  # one that fits neither is complained of
    if stage == "pretrain":
        return replace(request, minutes=minutes, dataset=dataset)
    shape: dict[str, Any] = dict.fromkeys(("preset", *SHAPE_OPTIONS))  # the pretrained model has one
    return replace(request, minutes=minutes, dataset=dataset, **shape)


def tokenizer_stage(folder: RunFolder, request: Request) -> None:
    """Train the run's tokenizer, unless it has one."""
    if has_tokenizer(folder) and not request.restart:
        tokenizer = own_tokenizer(folder, request.vocab_size)
        _log.warning("%s is finished; --restart trains another", folder.path / TOKENIZER)
    else:
        source = text_source(request.texts, request.dataset, request.downloads)
        vocabulary = request.vocab_size or preset(request.preset or DEFAULT_PRESET).vocab_size
        tokenizer = train_tokenizer(source, vocabulary, shrink=request.vocab_size is None)
        keep_tokenizer(folder, tokenizer, source.name)
    _log.warning("%d tokens; next: python LLM-BPE.py --stage pretrain%s", tokenizer.vocab_size, run_option(folder.path))


def train_stage(stage: Stage, folder: RunFolder, request: Request, device: torch.device, started: float) -> None:
    """Train one stage from where it stands to its limit. started: time.monotonic() when its work began."""
    path = folder.path / stage
    record = None if request.restart else record_of(stage, folder)
    if record is not None:
        request = request.with_data_of(record)
        plan = resumed_plan(stage, record, request, path)
        if record.finished and not plan.limit.extends(record.limit):
            _log.warning("%s is finished: %s; more --steps or --minutes go on from its weights", path, record.summary)
            _log.warning("next: %s", next_command(stage, folder.path))
            return
        begun = take_up(stage, folder, request, record, plan)
    elif stage == "pretrain":
        begun = begin_pretraining(folder, request, device)
    else:
        begun = begin_finetuning(folder, request, device)

    batches, held_out = prepare(stage, folder, begun)
    if record is None:
        begun = replace(begun, plan=begun.plan.for_text(batches.tokens_per_epoch))
    plan, config = begun.plan, begun.plan.settings.config
    run = build_run(begun, device)
    report = TrainingReport(folder, stage, begun.tokenizer, plan)
    if record is not None:
        load_checkpoint(path / RESUME, run)
        report.resumed(run)
        _log.warning("%s goes on from step %d", path, run.step)
    else:
        run.earlier_seconds = time.monotonic() - started
        refuse_no_time(run, plan)
        folder.forget_stage(stage)
        if request.restart and stage == "pretrain":
            keep_tokenizer(folder, begun.tokenizer, begun.source.name)
        report.began()
        folder.note_stage(stage, start_from=None if request.start_from is None else str(request.start_from))
    folder.note_stage(
        stage,
        state="training",
        **plan.to_record(),
        **request.data_record(),
        source=begun.fingerprint,
        tokenizer=begun.tokenizer.fingerprint,
    )
    memory = estimate(run, plan.settings.tokens_per_step) if record else fit(run, plan.settings.tokens_per_step)
    for line in (*plan.lines(run.model.num_parameters, batches.tokens_per_epoch, device), memory.line):
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


def prepare(stage: Stage, folder: RunFolder, begun: Beginning) -> tuple[TrainingBatches, HeldOut]:
    """The stage's data as batches, from token files in the run's folder: those there, if they fit, else new ones."""
    files = prepared(begun.source.examples, begun.tokenizer, folder.path / "tokens", stage, begun.fingerprint)
    context, config = begun.plan.settings.shape.context, begun.plan.settings.config
    rows = config.rows(context)
    batches = TrainingBatches(files["train"], context=context, rows=rows, seed=config.seed)
    held_out = HeldOut(files["valid"], begun.tokenizer, context=context, rows=rows, max_tokens=config.eval_tokens)
    return batches, held_out


def build_run(begun: Beginning, device: torch.device) -> Run:
    """The model, with the weights it begins with, and its optimizer, at step 0."""
    settings = begun.plan.settings
    torch.manual_seed(settings.config.seed)
    model = build(settings.shape, dropout=settings.config.dropout)
    if begun.weights is not None:
        model.load_state_dict(begun.weights)
    model.to(device)
    return Run(model, Optimizer(model, settings.config), DTYPES[settings.dtype], device)


def refuse_no_time(run: Run, plan: Plan) -> None:
    """Raise ModelError when the minutes were over before the training could begin."""
    asked, training = plan.limit.seconds, plan.training_limit.seconds
    if asked is not None and training is not None and run.seconds >= min(asked, training):
        raise ModelError(
            f"preparing the data took {run.seconds:.1f} s and left none of {asked / 60:.3g} minutes to train; "
            "what is prepared is kept, so the same command may do now; more --minutes will"
        )


def next_command(stage: Stage, run: Path) -> str:
    """What a person types after this stage."""
    if stage == "pretrain":
        return f"python LLM-BPE.py --stage finetune{run_option(run)}"
    return f'python LLM-Generate.py "A man in a sinking ship"{run_option(run)}'


def run_option(run: Path) -> str:
    """The option that names this run, where one is needed."""
    return "" if run == Request().run else f" --run {run}"
