"""The trainer of a run, over its plan's rows, with all that happens beside the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from sft.config import SFTConfig
from sft.data.collate import Collator, Stretch, TrainingRows
from sft.data.loss_groups import LossGroups
from sft.data.token_batches import RowGroups
from sft.models.attention import uses_documents
from sft.models.context import ContextGroup
from sft.models.cpu_products import OneDnnLinear
from sft.models.quantization import quantization_of
from sft.training.adapter_restarts import rate_restarts
from sft.training.base import RunTrainer
from sft.training.build_model import build_model
from sft.training.callbacks import callbacks_of
from sft.training.care import take_care
from sft.training.dpo_run import preference_trainer
from sft.training.going_on import how_to_go_on
from sft.training.mesh import Mesh
from sft.training.optimizer import refuse_foreign_optimizer
from sft.training.plan import Plan
from sft.training.speed import apply_speed, quicken_products
from sft.training.token_figures import TokenFigures
from sft.training.token_weights import token_weight
from sft.training.trainer import WalkTrainer
from sft.training.window_rows import WindowRows


@dataclass(frozen=True)
class Kernels:
    """Which implementations compute what, for the run record."""

    attention: str
    products: str
    loss: str = "cross-entropy over trained positions"

    def to_dict(self) -> dict[str, str]:
        """Plain JSON values."""
        return asdict(self)


def kernels_of(config: SFTConfig, model: PreTrainedModel) -> Kernels:
    """What computes attention, products of matrices and the loss in a run."""
    attention = model.config._attn_implementation
    products = "oneDNN" if any(isinstance(module, OneDnnLinear) for module in model.modules()) else "PyTorch"
    if config.stage == "dpo":
        return Kernels(attention, products, f"TRL's DPO, {config.dpo_loss_type}")
    return Kernels(attention, products)


def build_trainer(
    config: SFTConfig,
    *,
    plan: Plan,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    args: TrainingArguments,
    callbacks: Sequence[TrainerCallback] = (),
    mesh: Mesh | None = None,
    context: ContextGroup | None = None,
) -> RunTrainer:
    """The trainer over the plan's rows, with all that happens beside the steps."""
    refuse_foreign_optimizer(args, config.loraplus_lr_ratio)
    apply_speed(model, config)
    folder = Path(config.output_dir)
    ours = callbacks_of(config, plan, model, tokenizer, args)
    both = {"plan": plan, "model": model, "tokenizer": tokenizer, "args": args, "callbacks": [*ours, *callbacks]}
    if config.stage == "dpo":
        reference = build_reference(config, tokenizer)
        trainer = preference_trainer(config, reference=reference, pad_token_id=pad_id(tokenizer), **both)
    else:
        trainer = walk_trainer(config, **both, mesh=mesh, context=context)
    trainer.loraplus_lr_ratio = config.loraplus_lr_ratio
    trainer.warmup_shape = config.warmup_shape
    trainer.rate_restarts = rate_restarts(config)
    trainer.quantization = quantization_of(config)
    trainer.offload_activations = config.offload_activations
    if isinstance(trainer, WalkTrainer):
        trainer.weigh = token_weight(config)
        trainer.figures = TokenFigures(loss_groups(config, plan)) if config.log_token_figures else None
    trainer.pop_callback(PrinterCallback)  # our own progress takes its place
    take_care(trainer, folder, max_bad_steps=config.max_bad_steps, go_on=how_to_go_on(config))
    return trainer


def walk_trainer(
    config: SFTConfig,
    *,
    plan: Plan,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    args: TrainingArguments,
    callbacks: Sequence[TrainerCallback],
    mesh: Mesh | None = None,
    context: ContextGroup | None = None,
) -> WalkTrainer:
    """The trainer of the stages that learn tokens."""
    data = plan.data
    rows = TrainingRows(data.train.examples, plan.train_packs, computed=plan.train_computed)
    weighted: bool | None = data.train.examples.weighted or (data.eval is not None and data.eval.examples.weighted)
    train_rows: TrainingRows | RowGroups | WindowRows = rows if plan.batches is None else RowGroups(rows, plan.batches)
    if data.stream is not None:
        train_rows, weighted = WindowRows(config, data.stream, plan.steps * plan.rows_per_step), None
    return WalkTrainer(
        model=model,
        args=args,
        tokenizer=tokenizer,
        train_rows=train_rows,
        eval_rows=None
        if data.eval is None
        else TrainingRows(data.eval.examples, plan.eval_packs, computed=plan.eval_computed),
        collator=Collator(
            pad_id(tokenizer),
            packed=plan.train_packs is not None,
            weighted=weighted,
            by_document=uses_documents(model) or context is not None,
            stretch=None if context is None else Stretch(context.rank, context.size),
            groups=loss_groups(config, plan),
        ),
        callbacks=callbacks,
        mesh=mesh,
    )


def loss_groups(config: SFTConfig, plan: Plan) -> LossGroups | None:
    """By what losses are added up where figures of tokens are asked for."""
    return LossGroups.of(plan.data.train.examples.count_by_path()) if config.log_token_figures else None


def build_reference(config: SFTConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel | None:
    """Stage dpo without an adapter: the untrained model once more, frozen. With one, it is the model without it."""
    if config.use_lora:
        return None
    set_seed(config.seed)  # rows of added tokens begin at random, in both the same
    reference = build_model(config, tokenizer).requires_grad_(False).eval()
    quicken_products(reference, config)
    return reference


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What fills empty slots. Any id will do: padding is known by position."""
    return int(tokenizer.pad_token_id) if tokenizer.pad_token_id is not None else 0
