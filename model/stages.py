"""The three stages of a run, from what a person asks to what stands in the run's folder.

In: a Request.  Out: tokenizer.json, token files, pretrain/ and finetune/ in the run's folder. A training stage settles
what it starts from (model/beginning.py), prepares its data, builds or takes up the run, trains, and says what to type
next. The stages differ in their data, in where their weights come from and in their numbers (model/settings.py); the
loop is one (model/train.py). Where torchrun started several processes, all this is the first one's work; the others
follow it (model/following.py).
"""

import logging
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data.sources import PAIRS, TEXTS, text_source
from data.tokens import prepared
from model.beginning import (
    batches_of,
    begin_finetuning,
    begin_pretraining,
    build_run,
    has_tokenizer,
    keep_tokenizer,
    lessons_of,
    own_tokenizer,
    record_of,
    resumed_plan,
    source_of,
    take_up,
    train_tokenizer,
)
from model.checkpoint import load_checkpoint
from model.config import preset
from model.errors import ModelError
from model.folder import TOKENIZER, WEIGHTS
from model.following import Task, follow
from model.hardware import naming_want_of_memory, pick_device
from model.memory import fit
from model.parallel import give_weights_of_first, group, of_first, own_device, rank
from model.plan import Plan
from model.report import RESUME, TrainingReport
from model.request import DEFAULT_PRESET, SHAPE_OPTIONS, Request, StageRecord
from model.run import RunFolder
from model.settings import Stage
from model.train import Run, train

PART_OF_MINUTES: dict[Stage, float] = {"pretrain": 2 / 3, "finetune": 1 / 3}  # where one command does all
TRAINED: dict[str, tuple[Stage, ...]] = {  # what is trained in which order, by what is asked for
    "tokenizer": (),
    "pretrain": ("pretrain",),
    "finetune": ("finetune",),
    "all": ("pretrain", "finetune"),
}

_log = logging.getLogger("model")


def run_stages(stage: str, request: Request) -> None:
    """Do "tokenizer", "pretrain" or "finetune", or with "all" the three, in the run's folder.

    Of several processes that torchrun started the first does so, and the others train with it.
    Raises a UserError for whatever the user can put right, and KeyboardInterrupt, after saving, on Ctrl-C.
    """
    request.check(stage)  # before anything is downloaded, measured or written
    kind = pick_device(request.device)
    with group():
        device = own_device(kind)
        with naming_want_of_memory(device, "pass a smaller --preset, --context or --batch-tokens"):
            if rank() == 0:
                lead(stage, request, device)
            else:
                for each in TRAINED[stage]:
                    follow(each, request.run, device)


def lead(stage: str, request: Request, device: torch.device) -> None:
    """What the first process does."""
    folder = RunFolder(request.run)
    with folder.locked():
        if stage == "tokenizer":
            tokenizer_stage(folder, request)
        elif stage != "all":
            train_stage(TRAINED[stage][0], folder, request, device)
        else:
            finetuning = part_of(request, "finetune")
            if request.restart or record_of("finetune", folder) is None:
                source_of("finetune", finetuning)  # what is missing is said now, not after hours of pretraining
            train_stage("pretrain", folder, part_of(request, "pretrain"), device)
            if not request.restart and (record := record_of("finetune", folder)) and moved_on(record, folder):
                _log.warning("the pretrained model has moved on: finetuning begins anew from it")
                finetuning = replace(finetuning.with_data_of("finetune", record), restart=True)
            train_stage("finetune", folder, finetuning, device)
        _log.warning("next: %s", next_command(stage, folder))


def moved_on(record: StageRecord, folder: RunFolder) -> bool:
    """Whether the run's pretrained model is another than the one that this stage, finetuning, began with."""
    known = record.pretrained is not None and record.start_from is None
    return known and record.pretrained != folder.hash_of(folder.path / "pretrain" / WEIGHTS)


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
    _log.warning("%d tokens in %s", tokenizer.vocab_size, folder.path / TOKENIZER)


def train_stage(stage: Stage, folder: RunFolder, request: Request, device: torch.device) -> None:
    """Train one stage from where it stands to its limit.

    Raises what the parts of it do: a UserError for data, files or options that do not fit, Diverged, and
    KeyboardInterrupt, after saving, where the person stopped it.
    """
    # What is it to learn from, and from which weights?
    path = folder.path / stage
    record = None if request.restart else record_of(stage, folder)
    if record is not None:
        request = request.with_data_of(stage, record)
        plan = resumed_plan(stage, record, request, path, device)
        if moved_on(record, folder):
            _log.warning("the pretrained model has moved on since finetuning began; --restart begins from it")
        if record.is_done(plan.limit):
            _log.warning("%s is finished: %s; more --steps or --minutes go on from its weights", path, record.summary)
            of_first(None)
            return
        begun = take_up(stage, folder, request, record, plan, device)
    elif stage == "pretrain":
        begun = begin_pretraining(folder, request, device)
    else:
        begun = begin_finetuning(folder, request, device)

    # Its text as tokens, and with them the rest of the plan.
    tokens = folder.path / "tokens"
    files = prepared(begun.source.examples, begun.tokenizer, tokens, stage, begun.fingerprint)
    batches, held_out = batches_of(files, begun.tokenizer, begun.plan)
    tokens_per_epoch = batches.positions_per_epoch
    if record is None:
        sizes = tokens_per_epoch, held_out.num_tokens
        spent = time.monotonic() - begun.started
        begun = replace(begun, plan=begun.plan.for_text(stage, request, *sizes, preparing_seconds=spent))
    plan, config = begun.plan, begun.plan.settings.config
    lessons = lessons_of(batches, held_out, plan)

    # The model and its optimizer, new or as they were saved; from here on the run's folder changes.
    run = build_run(plan, device, begun.weights)
    report = TrainingReport(folder, stage, begun.tokenizer, plan)
    if record is not None:
        load_checkpoint(path / RESUME, run)
        report.resumed(run)
        _log.warning("%s goes on from step %d", path, run.step)
    else:
        run.started = begun.started
        refuse_no_time(run, plan)
        folder.forget_stage(stage)
        if request.restart and stage == "pretrain":
            keep_tokenizer(folder, begun.tokenizer, begun.source.name)
        report.began()
        start_from = None if request.start_from is None else str(request.start_from)
        folder.note_stage(stage, start_from=start_from, pretrained=begun.pretrained)
    folder.note_stage(
        stage,
        state="training",
        **plan.to_record(),
        **request.data_record(),
        source=begun.fingerprint,
        tokenizer=begun.tokenizer.fingerprint,
    )

    # What is to come, in words; then the training.
    memory = fit(run, plan.settings.tokens_per_step)
    parameters = run.model.num_parameters
    expected = plan.expectation(parameters, tokens_per_epoch) if stage == "pretrain" and record is None else []
    for line in (*plan.lines(parameters, tokens_per_epoch, device), *expected, memory.line):
        _log.warning("%s", line)
    if plan.compiled:
        run.compile()
    of_first(Task(plan, begun.tokenizer, resumed=record is not None))
    give_weights_of_first(run.model)
    with report.watching():
        done = train(run, lessons, held_out, config, plan.training_limit, report)
    if not done:
        same = "the same command without --restart" if request.restart else "the same command"
        _log.warning("stopped at step %d and saved; %s goes on from there", run.step, same)
        raise KeyboardInterrupt
    if run.best is None:
        raise ModelError(
            f"{path} was given no time for a step; pass more --minutes, and it goes on from what is prepared"
        )
    summary = report.finished(run)
    folder.note_stage(stage, state="finished", summary=summary, step=run.step, seconds=round(run.seconds, 1))
    _log.warning("%s", summary)
    _log.warning("saved in %s", path)
    if report.wants_stop():  # too late for this stage, not for the next
        raise KeyboardInterrupt


def refuse_no_time(run: Run, plan: Plan) -> None:
    """Raise ModelError when the minutes were over before the training could begin."""
    asked, training = plan.limit.seconds, plan.training_limit.seconds
    if asked is not None and training is not None and run.seconds >= min(asked, training):
        raise ModelError(
            f"preparing the data took {run.seconds:.1f} s and left none of {asked / 60:.3g} minutes to train; "
            "what is prepared is kept, so the same command may do now; more --minutes will"
        )


def next_command(stage: str, folder: RunFolder) -> str:
    """What a person types after this stage; a data set by name, if it was trained on one, goes on where it can."""
    if stage == "tokenizer":
        return f"python LLM-BPE.py --stage pretrain{run_option(folder.path)}"
    if stage == "pretrain":
        dataset = folder.stage(stage).get("dataset")
        same = f" --dataset {dataset}" if dataset in PAIRS else ""
        return f"python LLM-BPE.py --stage finetune{run_option(folder.path)}{same}"
    return f'python LLM-Generate.py "A man in a sinking ship"{run_option(folder.path)}'


def run_option(run: Path) -> str:
    """The option that names this run, where one is needed."""
    return "" if run == Request().run else f" --run {shlex.quote(str(run))}"
