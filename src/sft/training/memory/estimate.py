"""How much memory a run needs on each device, part by part, from its config alone or with its prepared data."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.collate import TrainingRows
from sft.models.families import model_type_of
from sft.training.cpu_memory import is_glibc
from sft.training.memory.batch import HeaviestBatch, heaviest_batch, imagined_batch, parts_of_rows, shortened
from sft.training.memory.cache_of_answers import generation_bytes
from sft.training.memory.heap import heap_sizes
from sft.training.memory.place import Place
from sft.training.memory.sharing import Held, held_by_each
from sft.training.memory.skeleton import read_model_config
from sft.training.memory.states import optimizer_bytes
from sft.training.memory.trace import Conditions, Traced, TrainedWeight, trace_step
from sft.training.plan import Plan
from sft.training.strategy import ALONE, AskedStrategy

STEP_BY_STEP = ("mamba", "falcon_mamba", "jamba", "zamba", "recurrent_gemma", "rwkv", "xlstm")
"""Families whose plain form goes token by token, thousands of operations a layer: short rows stand for long ones."""

SHORT_ROWS = (8, 16)
"""Tokens of these rows. What is kept grows by the same for each token."""

MAKING_LOGITS = ("TP", "FSDP1")
"""Strategies under which the head's weight is never whole where the loss is made."""

ANSWERS = "answers of the model"

PARTS = ("weights", "gradients", "optimizer", "activations", "head", "sharing", "answers")


@dataclass(frozen=True)
class Moment:
    """What lies in a device's memory when most does, in one phase of a run."""

    name: str
    parts: dict[str, int]
    """Bytes by ``PARTS``."""

    @property
    def total(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Estimate:
    """Memory of a run on each device."""

    moments: tuple[Moment, ...]
    """Forward and backward, the optimizer's step, and where there is one, evaluation and answers."""
    first_step: int
    """The most in the first step, when forward and backward find no states of the optimizer yet."""
    batch: str
    """The heaviest batch, in words."""
    host: int = 0
    """Bytes that lie in the machine's memory instead of the device's."""
    paged: int = 0
    """Optimizer states that may leave the device when it is short of memory."""
    leaves_holes: bool = False
    """On a CPU: what is freed stays with the process, and not all of it can be used again (keep_cpu_memory)."""
    notes: tuple[str, ...] = ()

    @property
    def peak(self) -> Moment:
        """The phase that takes most."""
        return max(self.moments, key=lambda moment: moment.total)

    @property
    def training_peak(self) -> Moment:
        """The same without answers, whose share is a bound and not what they will take."""
        return max((moment for moment in self.moments if moment.name != ANSWERS), key=lambda moment: moment.total)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for run.json and ``sft plan --json``."""
        return {
            "peak_bytes": self.peak.total,
            "peak_in": self.peak.name,
            "first_step_bytes": self.first_step,
            "moments": {moment.name: {**moment.parts, "total": moment.total} for moment in self.moments},
            "batch": self.batch,
            "host_bytes": self.host,
            "paged_bytes": self.paged,
            "notes": list(self.notes),
        }


class Unknown(Exception):
    """What a run needs cannot be told; the message says why."""


def estimate(
    config: SFTConfig,
    strategy: AskedStrategy,
    place: Place,
    *,
    plan: Plan | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Estimate:
    """Estimate a run.

    Args:
        plan: None: rows of ``max_length`` tokens are taken.
        tokenizer: needed where tokens are added.

    Raises:
        ModelError: the model's config cannot be read.
        Unknown: the model does what cannot be followed without weights.
    """
    return put_together(config, follow(config, strategy, place, plan=plan, tokenizer=tokenizer), strategy, place)


@dataclass(frozen=True)
class Followed:
    """A step that was followed, and what was followed."""

    traced: Traced
    batch: HeaviestBatch
    model_config: Any


def follow(
    config: SFTConfig,
    strategy: AskedStrategy,
    place: Place,
    *,
    plan: Plan | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Followed:
    """The longest part of an estimate; of ``strategy`` only the name and the sharing of rows count.

    Raises:
        ModelError, Unknown: as for ``estimate``.
    """
    batch = batch_of(config, strategy, plan)
    conditions = _conditions(config, strategy, place, tokenizer)
    model_config = read_model_config(config)
    try:
        with _quiet(), _whole(strategy):
            traced = _trace(config, model_config, batch, _evaluated(config, plan), conditions)
    except Exception as error:
        raise Unknown(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    return Followed(traced, batch, model_config)


def put_together(config: SFTConfig, followed: Followed, strategy: AskedStrategy, place: Place) -> Estimate:
    """What was traced, with the optimizer's states, as each device has it."""
    traced, model_config = followed.traced, followed.model_config
    half = config.bf16 or config.fp16
    trained = traced.trained
    if half and _engine_casts(strategy):
        trained = tuple(replace(weight, itemsize=4) for weight in trained)
    states = optimizer_bytes(config.optim, trained, on_accelerator=place.on_accelerator)
    held = held_by_each(traced, states, strategy, half=half, on_accelerator=place.on_accelerator)
    on_host = states.paged and place.on_accelerator
    stays = {
        "weights": held.weights,
        "gradients": 0,
        "optimizer": 0 if on_host else held.optimizer,
        "activations": 0,
        "head": 0,
        "sharing": held.sharing,
        "answers": 0,
    }
    share = held.gradients / max(1, traced.gradients)
    step = {kind: int(size * (share if kind == "gradients" else 1)) for kind, size in traced.step.items()}
    step["gradients"] = max(held.buffered, step.get("gradients", 0))
    gathering = {"sharing": held.sharing + held.gathered}
    moments = [
        Moment("forward and backward", stays | step | gathering),
        Moment("the optimizer's step", stays | {"gradients": held.gradients + held.copied, "activations": held.step}),
    ]
    if traced.evaluation:
        moments.append(Moment("evaluation", stays | {"gradients": held.buffered} | traced.evaluation | gathering))
    if answers := generation_bytes(config, model_config):
        moments.append(Moment(ANSWERS, stays | {"answers": answers} | gathering))
    first = max(moments[0].total - stays["optimizer"], moments[1].total)
    keeps = not place.on_accelerator and config.keep_cpu_memory and is_glibc()
    counts_holes = keeps and strategy.name == ALONE and bool(traced.course)
    if counts_holes:
        after_first, heap = heap_sizes(traced.course, held.weights, _states_of(trained, states.states))
        moments[0] = Moment(moments[0].name, moments[0].parts | {"holes": max(0, heap - moments[0].total)})
        first = max(first, after_first)
    return Estimate(
        moments=tuple(moments),
        first_step=first,
        batch=followed.batch.describe(),
        leaves_holes=keeps,
        host=held.host,
        paged=held.optimizer if on_host else 0,
        notes=_notes(config, held, model_config, holes=keeps and not counts_holes, is_known=states.is_known),
    )


def batch_of(config: SFTConfig, strategy: AskedStrategy, plan: Plan | None) -> HeaviestBatch:
    """The heaviest batch of one device."""
    size = config.per_device_train_batch_size
    if plan is None:
        batch = imagined_batch(config, batch_size=size)
    else:
        rows = TrainingRows(plan.data.train.examples, plan.train_packs, computed=plan.train_computed)
        batch = heaviest_batch(rows, plan.batches, batch_size=size)
        if plan.stream is not None:
            batch = replace(batch, of="the first window")
    return parts_of_rows(batch, strategy.mesh.context)


def _evaluated(config: SFTConfig, plan: Plan | None) -> HeaviestBatch | None:
    if plan is None or plan.data.eval is None or not config.do_eval:
        return None
    rows = TrainingRows(plan.data.eval.examples, plan.eval_packs, computed=plan.eval_computed)
    return heaviest_batch(rows, None, batch_size=config.per_device_eval_batch_size)


def _conditions(
    config: SFTConfig, strategy: AskedStrategy, place: Place, tokenizer: PreTrainedTokenizerBase | None
) -> Conditions:
    half = torch.bfloat16 if config.bf16 else torch.float16 if config.fp16 else None
    return Conditions(
        tokenizer=tokenizer,
        strategy=strategy.name,
        makes_logits=strategy.name in MAKING_LOGITS,
        half_weights=half if _engine_casts(strategy) else None,
        on_accelerator=place.on_accelerator,
    )


def _engine_casts(strategy: AskedStrategy) -> bool:
    """Whether weights are turned into the precision of the computation, not only their products."""
    return strategy.is_deepspeed or strategy.is_fsdp


def _trace(
    config: SFTConfig,
    model_config: Any,
    batch: HeaviestBatch,
    evaluated: HeaviestBatch | None,
    conditions: Conditions,
) -> Traced:
    if model_type_of(model_config) not in STEP_BY_STEP or batch.width <= max(SHORT_ROWS):
        return trace_step(config, model_config, batch, evaluated, conditions)
    both = [
        trace_step(config, model_config, shortened(batch, width), evaluated and shortened(evaluated, width), conditions)
        for width in SHORT_ROWS
    ]

    return replace(
        both[1],
        step=reached(both[0].step, both[1].step, batch.width),
        evaluation={} if evaluated is None else reached(both[0].evaluation, both[1].evaluation, evaluated.width),
        course=(),
    )


def reached(one: dict[str, int], other: dict[str, int], width: int) -> dict[str, int]:
    """Bytes by kind of a row of ``width`` tokens, from those of the two short rows.

    The sum grows by the same for each token; kind by kind it need not, for most may be alive late in the backward pass
    of the shorter row, with gradients there, and early in that of the longer one, with none. So what is added is all
    counted as activations, which alone grow with a row.
    """
    low, high = SHORT_ROWS
    grown = max(0, sum(other.values()) - sum(one.values())) * (width - high) // (high - low)
    return other | {"activations": other.get("activations", 0) + grown}


def _states_of(trained: Sequence[TrainedWeight], states: int) -> Iterator[int]:
    """Bytes of the tensors in which an optimizer keeps its states: two of a size for each weight, about."""
    total = sum(weight.bytes for weight in trained)
    for weight in trained:
        if size := states * weight.bytes // max(1, total) // 2:
            yield from (size, size)


def _notes(config: SFTConfig, held: Held, model_config: Any, *, holes: bool, is_known: bool) -> tuple[str, ...]:
    notes = list(held.notes)
    if holes:
        notes.append("keep_cpu_memory leaves holes between blocks: the process may come to hold up to twice as much")
    if not is_known:
        notes.append(f"what {config.optim} keeps is not known here: two numbers a weight were taken, as for AdamW")
    if config.offload_activations:
        notes.append(
            "activations are counted as if they stayed on the device (offload_activations moves the large ones)"
        )
    if config.stage == "dpo":
        notes.append("TRL makes the loss of pairs by a head of its own: roughly")
    if model_type_of(model_config) in STEP_BY_STEP:
        notes.append("its state is counted in plain PyTorch; the kernels of mamba_ssm need less")
    return tuple(notes)


def _whole(strategy: AskedStrategy) -> AbstractContextManager[None]:
    """Under ZeRO-3 transformers would have every process build the model in pieces; a skeleton has none."""
    if strategy.name != "ZeRO-3":
        return nullcontext()
    from sft.training.gather import loading_whole_models  # a second of imports, which no other strategy needs

    return loading_whole_models()


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing that libraries say of a model without content is of use."""
    level = transformers.logging.get_verbosity()
    fake = logging.getLogger("torch._subclasses.fake_tensor")
    disabled, fake.disabled = fake.disabled, True
    transformers.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        fake.disabled = disabled
        transformers.logging.set_verbosity(level)
